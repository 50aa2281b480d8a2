"""The only importer of redis: keys, scripts, typed answers."""
