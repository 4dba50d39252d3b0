/* Stopping the world, and letting it go.
 *
 * The epoch is odd while the world is stopped or being stopped.  A thread that runs is told by a signal, once; one that is
 * SAFE is left alone, since it cannot leave that state before the epoch is even again.  Each thread that becomes SAFE
 * during a stop says so on one word, on which the stopping thread sleeps; only the one that it awaits wakes it. */
#ifndef MIDDEN_MUTATOR_WORLD_H
#define MIDDEN_MUTATOR_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "mutator/mutator.h"

/* Instead of being signalled, threads look by themselves, at the end of each critical section and barrier.  The thread
 * sanitizer's runtime cannot be entered in the middle of itself, where a signal may come. */
#define WORLD_BY_POLL THREAD_SANITIZER

/* How often a thread may refuse to stop where midden_locked_call has just returned to. */
enum { WORLD_RESPITES = 4 };

/* Installs the handler.  `signal` 0: the system's default.  0 or -errno. */
int world_init(int signal);
int world_signal(void);

/* Changes the signal; the caller is the only mutator and holds the threads lock.  0 or -errno. */
int world_change_signal(int signal);

/* For a thread of the library's own, which blocks all signals when it starts: lets the one through that stops threads, and
 * again when the program has chosen another.  `*unblocked`: the one that is let through, 0 at first. */
void world_unblock_signal(int *unblocked);

/* Stops every other mutator.  The caller holds the threads lock, which keeps threads from attaching and detaching, until
 * after world_resume; it stays RUNNING itself. */
void world_stop(struct mutator *self);
void world_resume(void);

bool world_is_stopped(void);

/* Whether the calling thread has stopped it, or is about to: then it is not stopped itself, whoever sends it the signal. */
bool world_is_stopped_by(const struct mutator *self);

/* Before the first signal of a stop or a round, and before those that are repeated: sees to it that the handler is the
 * library's, whatever the program has put in its place, and gives true where that was so. */
bool world_keep_signal(void);

/* Has a running thread see what is wanted of it: a stop or a handshake.  0; -ESRCH where the thread has ended; -EAGAIN. */
int world_interrupt(struct mutator *mutator);

/* How many threads the last stop had to signal; between it and the next one. */
size_t world_signalled(void);

/* Signalling found that the thread ended without detaching: it counts as SAFE, with nothing on its stack.  The threads lock
 * is held. */
void world_forget_ended(struct mutator *mutator);

/* For a thread that just became SAFE: tells a stop in progress. */
void world_acknowledge(const struct mutator *self);

/* Waits until no stop is in progress. */
void world_wait_resumed(void);

#endif
