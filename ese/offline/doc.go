// Package offline changes the files of a storage group that no server has open.
//
//	Recover   brings the databases to the end of the log (soft recovery)
package offline
