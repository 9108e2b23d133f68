"""Pictures of records: SVG, HTML, terminal text and the live widget. Holds no connection, knows no notebook."""
