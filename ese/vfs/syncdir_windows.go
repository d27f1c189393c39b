package vfs

// syncDir does nothing: NTFS journals its directories, and a folder cannot be flushed
// without administrator rights.
func syncDir(string) error { return nil }
