// Package kill kills the real server with SIGKILL under load, again and again, and asks
// afterwards for every message that had got its 250. It has tests only.
package kill
