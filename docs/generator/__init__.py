"""The reference pages, made from the code and the YAMLs when the site is built; none is committed."""
