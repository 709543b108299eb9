"""What the database has published: placeholder of one function until the store is merged."""
