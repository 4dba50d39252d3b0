/* A mark phase beside the program: barrier mode.  The protocol, and why nothing is lost, is docs/barrier-mode.md; this is
 * the collector's side of it, run by one thread of the library's own (driver.h) that holds the collector lock.
 *
 * What threads do themselves: their stacks are marked by their own hands (the handshake's action), what they store is
 * looked at when their buffers are full, and they assist (assist.h).  Each marks with a tracer of its own, and between two
 * critical sections holds nothing grey: all of it is in the pool.
 *
 * `concurrent.news` counts the times that a thread made something grey: the phase MARK ends when it has not changed since
 * before a round of handshakes and the pool is empty. */
#ifndef MIDDEN_GC_CONCURRENT_H
#define MIDDEN_GC_CONCURRENT_H

#include <stdbool.h>

#include "gc/cycle.h"

/* At start, for barrier mode: threads get tracers, and the barrier somebody who looks at what was stored. */
void concurrent_init(void);

/* The mark phase.  Where there was no memory to learn the roots: given_up, and all marks are taken back. */
void concurrent_run(struct cycle *cycle);

/* What other mark phases beside the program are made of too (dirty.c).
 *
 * A full cycle is about to begin: takes the marks of old objects back. */
void concurrent_forget_old(struct cycle *cycle);

/* Begins: objects that are freed wait, no span becomes free; `with_barrier`, stores are told.  Then the stacks, if
 * `scans_threads`, and the phase is MARK: from its own scan on a thread allocates black, or, if young_are_white, from a later
 * moment on when the world is stopped.  Until then stacks may be scanned again, or for the first time. */
void concurrent_begin(struct cycle *cycle, bool with_barrier);
void concurrent_begin_mark(struct cycle *cycle, bool scans_threads);
void concurrent_scan_threads_again(struct cycle *cycle);
void concurrent_blacken_stw(struct cycle *cycle);

/* Marking is over: the marks become the allocation bits.  What was allocated by black threads lives, besides what was
 * marked.  The list of mutators is locked, and no thread in a critical section; or, the second, the world runs. */
void concurrent_trade_sides_locked(struct cycle *cycle);
void concurrent_trade_sides(struct cycle *cycle);

/* Stops the world to verify the heap, if that is asked for. */
void concurrent_verify(struct cycle *cycle);

/* The same without a result: takes all marks back.  No thread is in a critical section, and nobody holds anything grey but the
 * pool. */
void concurrent_take_back(void);

/* In a fork's child, the only thread, the collector lock held: takes a mark phase back that was under way in the parent. */
void concurrent_forked(struct mutator *self);

/* Whether a mark phase beside the program is under way, in which everything that a thread gets hold of by other means than
 * by loading it must be marked: ARM to MARK.  Critical sections. */
bool concurrent_is_marking(void);

/* The phase after that: what is not marked is dead, to be found no more.  Critical sections. */
bool concurrent_is_settling(void);

/* Marks an object by the calling thread, while concurrent_is_marking.  Critical sections. */
void concurrent_mark(struct mutator *self, uintptr_t address);

/* Added roots are about to go that lie in a range: marks what they refer to, where that is called for (while marking; not in
 * dirty-page mode, which scans the stacks again).  The program may have loaded it, by a thread that was scanned before.  Critical
 * sections. */
bool concurrent_marks_added(void);
void concurrent_mark_added(struct mutator *self, struct os_range range);

/* The calling thread's tracer for the cycle under way; give what it holds back by concurrent_publish before the critical
 * section ends. */
struct midden_tracer *concurrent_tracer(struct mutator *self);
void concurrent_publish(struct midden_tracer *tracer);

/* The same where the thread also took grey objects from the pool: `scanned`, it did.  Who looked at the pool meanwhile missed
 * them. */
void concurrent_publish_worked(struct midden_tracer *tracer, bool scanned);

#endif
