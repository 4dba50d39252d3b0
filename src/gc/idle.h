/* What happens when the program stops allocating: a last collection, then silence.
 *
 * What a program dropped before it fell idle is found by no collection of its own: none comes.  So when nothing was
 * allocated for `after_ns` and collections ran since the last such rest, or much was allocated since the last of them, the
 * background thread has one run (COLLECT_IDLE) and sweeps; the scavenger gives back what the heap does not need.  A
 * program that has hardly allocated is left alone, and one that wants no collections for growth (percent -1).  So is one that
 * does not allocate because it waits for a collection: its silence begins when that ends.
 *
 * A cycle beside the program may take seconds, and the program go on meanwhile: it has no hurry, and the background thread
 * does its other work until the driver pokes it.
 *
 * How it is seen that the program allocates: account_watch (alloc/account.h), one word.
 *
 *     NONE   the program has allocated (or nobody asks)   the task looks again after after_ns: -> LOOK
 *     LOOK   it has not since the task armed it           still so when the task looks: the program is idle, -> WAKE
 *     WAKE   the program is idle, the task sleeps         the program's next step of 32 KiB: -> NONE, and a poke
 *
 * The program makes the steps to NONE, by exchange; the task the others, the one to WAKE by compare and swap, so that an
 * allocation in between is not missed. */
#ifndef MIDDEN_GC_IDLE_H
#define MIDDEN_GC_IDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mutator/mutator.h"

struct idle_watch {
  uint64_t after_ns;
  uint64_t look_ns;     /* when the task looks again */
  uint64_t collections; /* as of the last rest */
};

enum idle_action {
  IDLE_LOOK_LATER, /* the program is at work */
  IDLE_COLLECT,    /* it has stopped, and there may be much to find */
  IDLE_REST        /* it has stopped */
};

/* How things stand. */
struct idle_view {
  uint64_t collections;
  size_t marked_bytes, live_bytes;
  uint64_t collected_ns; /* until when a collection ran; now, if one does */
  uint64_t now_ns;
};

/* What the task should do now; `*wait_ns` is when to ask again.  Arms `watch`. */
enum idle_action idle_step(struct idle_watch *idle, uint32_t *watch, const struct idle_view *view, uint64_t *wait_ns);

/* Before other threads exist.  Without it nothing of this happens. */
void idle_init(uint64_t after_ns);

/* After a cycle: whether the background thread is to be woken, since the task does not look yet and the heap is worth it. */
bool idle_wants_background(void);

/* The driver has run what it was asked for until now. */
void idle_cycle_ended(void);

/* In a fork's child: there is no task any more that looks. */
void idle_forget(void);

/* For the background thread. */
uint64_t idle_task(struct mutator *self, uint64_t now_ns);

#endif
