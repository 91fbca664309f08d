"""What `import lkm` gives: kernels, builds, machines and what is loaded on them, each as an object."""
