package logrec

// Type is the kind of a record. Types below 16 belong to the log itself.
type Type uint8

// The log's own record types.
const (
	TypeNone          Type = 0 // preallocated space: the end of what was written
	TypeEnd           Type = 1 // the last record of a generation
	TypeFlushMark     Type = 2 // the first record of each write
	TypeFragmentBegin Type = 3 // reserved
	TypeFragment      Type = 4 // reserved
	FirstEngineType   Type = 16
)

// The engine's record types. The reserved ones have numbers so that a later version can add
// them without a new format; this version refuses a log that holds one. Numbers are never
// reused (docs/format-log.md, "Record types").
const (
	TypeNode     Type = 16 // one change of one leaf node by a transaction, or its compensation
	TypeMacro    Type = 17 // an atomic change of several pages, never undone
	TypeCommit   Type = 18 // a transaction is committed
	TypeRollback Type = 19 // a transaction is wholly undone
	TypeStream   Type = 20 // bytes of a .stm file
	TypeCreateDB Type = 21 // a database file is made
	TypeAttach   Type = 22 // a database is attached
	TypeDetach   Type = 23 // a database is detached clean
	TypeTerm     Type = 24 // clean end of the instance
	TypeLeft     Type = 25 // a transaction is undone but for databases that are lost
	TypeDelta    Type = 32 // as TypeNode: a number added to in place, or its compensation

	TypeReservedSchema      Type = 33 // online schema change
	TypeReservedBackupBegin Type = 34
	TypeReservedBackupEnd   Type = 35
	TypeReservedMove        Type = 36 // page and mailbox move
	TypeReservedCompressed  Type = 37 // stream bytes, compressed
	TypeReservedEncrypted   Type = 38 // stream bytes, encrypted
)
