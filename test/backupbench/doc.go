// Package backupbench measures what backup and restore cost, with the real program on a real disk:
//
//	TestDelivery  SMTP delivery without and with a full backup running beside it, in turns
//	TestRestore   restore of a full set against dd of the same files with fsync; replay of a
//	              gigabyte of mail logs in hard recovery against dd's sequential read of them
//
// Everything is measured several times in one run, interleaved, and printed as median (least to
// greatest). It only runs when it is asked for (`make backupbench`): it fills BACKUP_GB gigabytes, and
// empties the page cache of the system, for which it must be root.
package backupbench
