"""When a run of clip scores becomes an alarm: pure folds."""
