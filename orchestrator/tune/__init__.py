"""Finding the settings and the tensor types under which decodes of several rows are cheap."""
