"""Tables from the documents of evaluations: on screen, in Markdown, in the LaTeX of the paper."""
