"""Results as self-contained HTML pages, pictures and Markdown: arrays and documents in, sections with charts out."""
