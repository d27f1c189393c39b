package page

// Used is what an image of the page needs besides the tags: the header without checksum and
// dbtime, and the bytes up to ibMicFree.
func (p Page) Used() []byte { return p[16 : p.header()+p.micFree()] }

// TagBytes is the tag array as it lies at the end of the page.
func (p Page) TagBytes() []byte { return p[len(p)-4*p.tags():] }

// SetImage makes the page what Used and TagBytes gave. It reports false, and changes
// nothing, when they do not fit; the caller then runs Check.
func (p Page) SetImage(used, tags []byte) bool {
	if len(used) < p.header()-16 || 16+len(used)+len(tags) > len(p) || len(tags)%4 != 0 {
		return false
	}
	clear(p)
	copy(p[16:], used)
	copy(p[len(p)-len(tags):], tags)
	return p.tags()*4 == len(tags) && p.header()+p.micFree() == 16+len(used)
}
