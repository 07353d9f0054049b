"""The edge kit that every domain's pages and REST routes share."""
