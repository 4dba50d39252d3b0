/* Starting the library, by midden_init or by the first call of anything else. */
#ifndef MIDDEN_API_START_H
#define MIDDEN_API_START_H

#include "mutator/mutator.h"

/* The calling thread's mutator; starts the library and attaches the thread if need be. */
struct mutator *start_self_slow(void);

static inline struct mutator *start_self(void) {
  struct mutator *self = mutator_self_if_attached();
  return LIKELY(self != NULL) ? self : start_self_slow();
}

/* The same, or NULL where there is no memory to attach the thread: for allocation, which can say so. */
struct mutator *start_self_or_null_slow(void);

static inline struct mutator *start_self_or_null(void) {
  struct mutator *self = mutator_self_if_attached();
  return LIKELY(self != NULL) ? self : start_self_or_null_slow();
}

/* Starts the library if that has not happened. */
void start_ensure(void);

/* The same, and attaches the calling thread as mutator_attach does: also the one that starts it. */
int start_attach(uintptr_t stack_base);

/* Around a fork, by who forks.  Whether it has started; a start that is under way is waited for, and where there is none no other thread
 * begins one, until it is let go: in the parent, and in the child. */
bool start_hold(void);
void start_let_go(void);

/* Debug: collect at every so many allocations; 0: off.  Constant after start. */
extern unsigned start_stress_interval;

#endif
