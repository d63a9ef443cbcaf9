"""Published studies: their rows (conf/experiment), tables and claims (conf/study), run again and compared."""
