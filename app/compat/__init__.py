"""Thin faces over the services: the same data in the shapes and errors that other programs expect."""
