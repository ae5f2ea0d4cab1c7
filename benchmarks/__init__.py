"""Programs that print tables: each figure beside a named peer or limit, measured in the same run."""
