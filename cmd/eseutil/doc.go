// Command eseutil looks at the files of a storage group: headers, checkpoint, checksums. It is
// a thin shell over package ese/inspect/report, and writes nothing.
package main
