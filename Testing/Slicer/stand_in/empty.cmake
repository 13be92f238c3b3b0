# Slicer's own files of these names do what no test here needs.
