"""What is said to a model: templates, messages, the fixed part of a request, and how an answer is graded.

Pure, but for `folder` and `reading`, which read files. No database, no HTTP, no state but caches of what never changes.
"""
