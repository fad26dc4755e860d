"""What can be known to be wrong with a run before it begins: the parts of the report that `basicsr check` prints."""
