"""Reports of a benchmark from its JSON document alone: terminal tables, Markdown, plots, comparisons."""
