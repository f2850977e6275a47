"""What touches the outside of the metadata service: its store's files and the event stream."""
