/* Marking: from a word that may be a reference to the object it names, and from an object to the words in it.
 *
 * The heap is bound by memory latency: what a marker does per object is a few dozen instructions and up to three cache
 * misses (the object, its mark bit, its page's information).  So an object that is popped from the work buffer is not scanned
 * at once.  Its first line is prefetched and it enters a FIFO of a few places, from whose other end the object is taken
 * that is scanned now.  (The idea is from Cher, Hosking, Vitek: Software prefetching for mark-sweep garbage collection,
 * 2004.)
 *
 * Large objects are scanned in pieces, so that markers can share them: an item of a work buffer that lies inside a large
 * object stands for the piece that starts there. */
#ifndef MIDDEN_GC_MARK_H
#define MIDDEN_GC_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gc/work.h"
#include "midden/midden.h"
#include "os/os.h"

/* One marking thread's state; the tracer that trace functions and root callbacks are given. */
struct midden_tracer {
  struct work_buffer *buffer; /* grey objects; NULL: none yet */
  size_t marked_objects, marked_bytes;
  bool parallel; /* others mark at the same time */
};

void mark_begin(struct midden_tracer *tracer, bool parallel);

/* Gives its buffer to the pool. */
void mark_end(struct midden_tracer *tracer);

/* Marks the object that holds an address, if any, and makes it grey. */
void mark_address(struct midden_tracer *tracer, uintptr_t address);

/* Marks what the aligned words of a range may refer to.  `is_stack`: a word one past the end of an object refers to it. */
void mark_range(struct midden_tracer *tracer, struct os_range range, bool is_stack);

/* Scans an object, marked or not: what it refers to becomes grey. */
void mark_contents(struct midden_tracer *tracer, uintptr_t object);

/* Scans grey objects until none are left, here and in the pool; with `parallel`, until all markers agree. */
void mark_drain(struct midden_tracer *tracer);

/* After a drain: makes good for work buffers that could not be had.  True if there was something to do: drain again. */
bool mark_rescan_overflow(struct midden_tracer *tracer);

/* Whether the object that holds an address is marked; false for every other address. */
bool mark_is_marked(const void *address);

#endif
