// Package kill kills the real server with SIGKILL under load, again and again, and asks
// afterwards for every message that had got its 250; and backups and restores, which leave the old
// state or the new one. It has tests only.
package kill
