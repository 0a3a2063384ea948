"""Will it fit? Memory of a target, its draft or head, and their caches, before anything is loaded."""
