package registry

// queue holds records in the order in which they were last heard, so that the
// janitor looks at those that are due and at no others. A record is in one
// queue at most.
type queue struct {
	first, last *record
	length      int
}

// take puts rec at the end, out of whatever queue it was in.
func (q *queue) take(rec *record) {
	if rec.in == q && q.last == rec {
		return
	}
	rec.leaveQueue()
	rec.in, rec.before = q, q.last
	if q.last == nil {
		q.first = rec
	} else {
		q.last.after = rec
	}
	q.last = rec
	q.length++
}

// leaveQueue takes rec out of its queue, if it is in one.
func (rec *record) leaveQueue() {
	q := rec.in
	if q == nil {
		return
	}
	if rec.before == nil {
		q.first = rec.after
	} else {
		rec.before.after = rec.after
	}
	if rec.after == nil {
		q.last = rec.before
	} else {
		rec.after.before = rec.before
	}
	rec.in, rec.before, rec.after = nil, nil, nil
	q.length--
}
