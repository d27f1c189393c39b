package btree

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/version"
)

// Log is what the tree asks of the write-ahead log.
type Log interface {
	Put(typ logrec.Type, payload []byte) (start, end logrec.LogPos, err error)
	// PutChange sets reserve bytes of log aside for taking the change back. back is the record
	// before of the same transaction, for a type that names it.
	PutChange(
		reserve int64, back logrec.LogPos, typ logrec.Type, payload []byte,
	) (start, end logrec.LogPos, err error)
	// PutReserved is for taking back; it gives release bytes back.
	PutReserved(
		release int64, back logrec.LogPos, typ logrec.Type, payload []byte,
	) (start, end logrec.LogPos, err error)
	End() logrec.LogPos
}

// Allocator hands out and takes back pages of a tree's space, inside a structure change.
type Allocator interface {
	sync.Locker
	Alloc(m *Mtr, t *Tree, near page.No) (page.No, error)
	Free(m *Mtr, t *Tree, no page.No) error
}

// Env is what all trees of an instance share.
type Env struct {
	Cache    *cache.Cache
	Log      Log
	Versions *version.Store
	// CopyBytes bounds the heap taken by copies of internal pages, in bytes.
	CopyBytes int64
	copies    copyList

	// Recovering keeps deleted rows on their pages: undo may still bring them back.
	Recovering atomic.Bool

	Splits, Merges, Purged atomic.Uint64
}

// Errors of a tree.
var (
	ErrKeyExists = errors.New("key exists already (-1605)")
	ErrNotFound  = errors.New("record not found (-1601)")
	ErrTooBig    = errors.New("record or key too big (-1026)")
)

// Tree is one B+ tree.
type Tree struct {
	env   *Env
	File  *cache.File
	Obj   page.ObjID
	Root  page.No
	id    version.TreeID
	alloc Allocator
	// joined: keys are not unique, the data belongs to the key.
	joined bool

	smo sync.Mutex // one structure change at a time
	seq atomic.Uint64
	top atomic.Pointer[inner]

	copyMu sync.Mutex
	copies map[page.No]*inner
}

// NewTree opens a tree. nonUnique is the root page's flag.
func NewTree(env *Env, f *cache.File, obj page.ObjID, root page.No, nonUnique bool, a Allocator) *Tree {
	return &Tree{
		env: env, File: f, Obj: obj, Root: root, alloc: a, joined: nonUnique,
		id: version.MakeTreeID(f.DB, uint32(obj)), copies: make(map[page.No]*inner),
	}
}

// ID names the tree in the version store.
func (t *Tree) ID() version.TreeID { return t.id }

// NonUnique tells that the data belongs to the key.
func (t *Tree) NonUnique() bool { return t.joined }

// MaxNode is the most that key and data of one node may take, in bytes: two nodes fit on a
// page, so that a split always makes room.
func MaxNode(pageSize int) int { return (pageSize-page.HeaderSize(pageSize)-20)/2 - 12 - maxPrefix/2 }

// maxPrefix bounds the key prefix of a page.
const maxPrefix = 128

func (t *Tree) wrap(op string, err error) error {
	return fmt.Errorf("%s tree %d of %s: %w", op, t.Obj, t.File.Name, err)
}
