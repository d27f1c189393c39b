// Command eseutil looks at the files of a storage group, checks, recovers and mends them, with
// the modes and options that operators of ESE databases know. It is a thin shell over package
// ese/inspect/report.
package main
