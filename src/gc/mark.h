/* Marking: from a word that may be a reference to the object it names, and from an object to the words in it.
 *
 * The heap is bound by memory latency: what a marker does for an object is a few dozen instructions and several cache
 * misses.  So nothing is touched at once.  What is about to be needed is prefetched, waits in a queue of a few places,
 * and is looked at when it leaves:
 *
 *     a word that names a slot          -> `candidates`, the slot's mark bit is on its way
 *     a candidate whose bit was clear   -> marked; the work buffer, the stack of grey objects
 *     a grey object                     -> `fifo`, its first line and its allocation bit are on their way
 *     an object from there              -> scanned, if it is one: a stale word may name a free slot, whose mark is taken back
 *
 * (The second queue is the idea of Cher, Hosking, Vitek: Software prefetching for mark-sweep garbage collection, 2004.)
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
#include "span/tally.h"

enum { MARK_CANDIDATES = 16 }; /* a power of two; about the misses that a core keeps under way */

struct mark_candidate {
  uintptr_t slot; /* offset of its first byte from the arena's start */
  uint16_t info;  /* of its page; 0: an empty place */
};

/* How a tracer marks; the same for all tracers of a cycle.
 *
 *     ALONE       nobody else marks, the world is stopped
 *     PARALLEL    others mark too, the world is stopped
 *     CONCURRENT  others mark too, and the program runs: the allocation bit is read (acquire) before a mark bit is set, since a
 *                 free slot may become a black object at any time (docs/barrier-mode.md, [black-first]).  In the other
 *                 modes a slot is marked first and its mark taken back if it turns out to be free, which spares a cache miss */
enum mark_mode { MARK_ALONE, MARK_PARALLEL, MARK_CONCURRENT };

/* One marking thread's state; the tracer that trace functions and root callbacks are given. */
struct midden_tracer {
  struct mark_candidate candidates[MARK_CANDIDATES];
  unsigned next_candidate;
  struct work_buffer *buffer; /* grey objects; NULL: none yet */
  struct tally marked;
  bool calls_traces;         /* CONCURRENT, and the world is stopped all the same; see mark_postpones_traces */
  size_t stack_bytes;        /* of stacks read */
  struct work_buffer *woken; /* objects that were marked while marking is watched, and have consequences; or NULL */
  enum mark_mode mode;
  size_t scanned_bytes; /* CONCURRENT: of objects scanned */
  uint32_t cycle;       /* a thread's own: the cycle that it was used in; 0: the collector's */
  int64_t debt_bytes;   /* a thread's own: of scanning; see assist.h */
  bool has_paid;        /* a thread's own: it has assisted in this cycle; assist.c counts them */
  uint32_t rest_cycle;  /* a thread's own, as slowing.c counts: the last in which it rested, */
  uint64_t rested_ns;   /* and for how long in that */
  bool is_added_up;     /* a thread's own: what it marked was added up already */
  uint64_t counted;     /* a thread's own: what it had marked when it was last asked */
  /* NULL; or who is told of everything reported to this tracer, of which then nothing is marked. */
  void (*visit)(struct midden_tracer *tracer, uintptr_t word, bool is_stack);
};

void mark_begin(struct midden_tracer *tracer, enum mark_mode mode);

/* Marks the object that holds an address, if any, and makes it grey. */
void mark_address(struct midden_tracer *tracer, uintptr_t address);

/* Marks what the aligned words of a range may refer to.  `is_stack`: a word one past the end of an object refers to it. */
void mark_range(struct midden_tracer *tracer, struct os_range range, bool is_stack);

/* Visitors of ranges: of such as are no stacks, and of stacks. */
static inline void mark_static(void *tracer, struct os_range range) { mark_range(tracer, range, false); }
static inline void mark_stack(void *tracer, struct os_range range) { mark_range(tracer, range, true); }

/* Makes sure that what was marked by the calls above has its mark bit. */
void mark_settle(struct midden_tracer *tracer);

/* Scans an object, marked or not: what it refers to becomes grey.  Some of a large one is left for the drain, unless `at_once`. */
void mark_contents(struct midden_tracer *tracer, uintptr_t object, bool at_once);

/* Scans grey objects until none are left, here and in the pool; PARALLEL: until all markers agree.  Not CONCURRENT. */
void mark_drain(struct midden_tracer *tracer);

/* CONCURRENT: scans grey objects of `bytes` at least, fewer where the pool is empty before; true if it was.  Then this
 * tracer holds nothing; else it may hold grey objects and marks on their way. */
bool mark_drain_some(struct midden_tracer *tracer, size_t bytes);

/* Gives all that the tracer holds to the pool; true if that were any grey objects. */
bool mark_publish(struct midden_tracer *tracer);

/* How many objects a tracer has marked since it began. */
uint64_t mark_count(const struct midden_tracer *tracer);

/* After a drain: makes good for work buffers that could not be had.  True if there was something to do: drain again. */
bool mark_rescan_overflow(struct midden_tracer *tracer);

/* Marks the object that holds an address, not what it refers to; any thread, between open and close alone. */
void mark_by_hand(const void *address);

/* From when the world is stopped until what was marked is counted.  Closing, which nobody marks beside, adds what was marked by
 * hand to `marked`, unless that is NULL; shutting leaves it to be added by another close. */
void mark_open_by_hand_stw(void);
void mark_shut_by_hand_stw(void);
void mark_close_by_hand(struct tally *marked);

/* The world stopped, nobody marks: from now on each object that is newly marked is asked for what follows from it
 * (settle_is_watched), which is marked too before a drain ends; or no longer. */
void mark_watch(bool watch);

/* Whether there was no memory to note such objects since the last call: then all that follows from any must be looked for
 * again. */
bool mark_watch_was_incomplete(void);

/* Scans once more what lies in a range of the arena of objects that are marked; returns about how many bytes that is. */
size_t mark_range_again(struct midden_tracer *tracer, struct os_range range);

/* Set at start: trace functions are not called by CONCURRENT tracers, but by mark_postponed_stw, when the world is stopped: by one
 * that is not CONCURRENT, or calls them for the time being. */
extern bool mark_postpones_traces;
bool mark_may_postpone(void);  /* whether there are objects that have one, or types, of which each may */
bool mark_has_postponed(void); /* whether one was not called since the last call of the next function */
void mark_forget_postponed(void);
void mark_postpone_all(void); /* all marked objects that may have one are scanned then */
void mark_postponed_stw(struct midden_tracer *tracer);

/* CONCURRENT: the marked objects of small classes that are at least in part in a range become grey again; false where there may be
 * large ones too.  Of those the next function scans what lies in the range, of one page at most, and of others nothing.  (Scanned at once,
 * small ones would be found a second time where they refer to others on the way.) */
bool mark_grey_again(struct midden_tracer *tracer, struct os_range range);
void mark_large_again(struct midden_tracer *tracer, struct os_range range);

/* CONCURRENT: whether objects have trace functions that may read what no card tells of; calls those of marked objects in spans that
 * begin in a part of the heap. */
bool mark_has_to_call_again(void);
void mark_call_again(struct midden_tracer *tracer, struct os_range part);

/* Whether the object that holds an address is marked; false for every other address. */
bool mark_is_marked(const void *address);

#endif
