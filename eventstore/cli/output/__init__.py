"""What the command line prints: text and JSON that no reader or encoding breaks, tables, bars."""
