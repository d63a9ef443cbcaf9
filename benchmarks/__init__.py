"""Speed, measured: cnnbench against a hand-written loop and against the usual pipeline. See README.md here."""
