/* Stacks beside the threads' own: memory for them, and where the part in use begins.
 *
 * A stack of ours is a span in the state STACK.  At its low end lies a guard that faults; sizes are powers of two up to
 * STACK_CACHED_MOST_BYTES, and a stack that is freed waits on the list of its size, guard and all, so that the next one
 * costs no system call.
 *
 *     taken     from the list of its size, or from the page heap and guarded
 *     freed     to the list, whatever phase the collector is in
 *     trimmed   stacks that were not needed since the last trimming give their memory to the system and their span to
 *               the page heap, the guard taken away.  Never while marking: until then a freed stack is only an idle one
 *
 * So the step from STACK to FREE, which may not happen while marking, is made by trimming alone, in a critical section
 * that saw no mark phase running; a phase begins by stopping the threads, or by hearing from each, outside of critical
 * sections.  (A span that could not be guarded is given back at any time: nobody was given it.)  A guard that cannot be taken away, for lack of memory in the kernel, keeps its stack on the list.
 *
 * `idle_least` of a size is the length of its list at its shortest since the last trimming: so many stacks, at the far end
 * of a list that is used at its near end, were not needed at all.
 *
 * A stack that the program registered may be any memory; it is a root from `pointer` to `high` while it is parked.
 *
 * All under the stacks lock, in critical sections, or while the world is stopped. */
#ifndef MIDDEN_MUTATOR_STACK_H
#define MIDDEN_MUTATOR_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"
#include "os/os.h"
#include "page/span.h"

#define STACK_LEAST_BYTES ((size_t)32 << 10)
#define STACK_DEFAULT_BYTES ((size_t)64 << 10)
#define STACK_CACHED_MOST_BYTES ((size_t)1 << 20)

enum { STACK_SAVED_WORDS = 64 };

struct midden_fiber;

struct midden_stack {
  struct link link;           /* idle, or a fiber's, or registered */
  struct span *span;          /* NULL: the program's own memory */
  uintptr_t low, high;        /* what may be used; the guard lies below */
  struct midden_fiber *fiber; /* whose it is; NULL: none's */
  uint32_t charged_in;        /* the period of the account when it was taken */
  void *thread_state;      /* of the context that ran on it, to be destroyed before it is used again; see os_switch.h */
  unsigned checker_number; /* what a memory checker knows it by; see base/memcheck.h */
  /* Registered stacks only. */
  bool is_running;        /* atomic; false with a release: the two below are written */
  uint32_t scanned_cycle; /* as a fiber's; by who switches to it; atomic */
  uintptr_t pointer;      /* parked: what is in use starts here; atomic */
  uintptr_t *saved_words; /* STACK_SAVED_WORDS registers, which the program's switch may keep elsewhere */
};

struct stacks_figures {
  size_t fibers;     /* stacks of fibers */
  size_t idle_bytes; /* spans of idle stacks, guards included */
};

void stacks_init(void);

/* Critical sections.  A stack of at least `bytes` usable bytes, 0 for the default; NULL where there is no memory. */
struct midden_stack *stack_take(size_t bytes, struct midden_fiber *fiber);
void stack_put(struct midden_stack *stack);

/* Critical sections.  Registers a stack of ours, taken as by stack_take, or memory of the program's.  NULL where there is no
 * memory.  Unregistering puts the one back and forgets the other. */
struct midden_stack *stack_register_new(size_t bytes);
struct midden_stack *stack_register(uintptr_t low, uintptr_t high);
void stack_unregister(struct midden_stack *stack);

/* Critical sections.  Gives back what was idle for long; or all that is idle, or `most` of them at most.  Returns bytes.  The first form
 * does nothing when the last was less than a second ago, the last one returns 0 when none is idle. */
size_t stacks_trim(void);
size_t stacks_trim_all(void);
size_t stacks_trim_some(size_t most);

/* In the child of a fork: visits every stack that a fiber has. */
void stacks_visit_fibers(void (*visit)(struct midden_fiber *fiber));

/* Visits every registered stack; the lock of the stacks is held. */
void stacks_visit_registered(void (*visit)(const struct midden_stack *stack, void *argument), void *argument);

/* Critical sections.  Asks `is_dead` of the next `count` stacks of fibers, in turn, and puts those back for which it returns
 * true.  Where `count` adds up to what stacks_count_fibers has said before the first such call, all were asked that were there then. */
void stacks_put_dead(bool (*is_dead)(struct midden_stack *stack), size_t count);
size_t stacks_count_fibers(void);

/* About how much memory stands behind the stacks of ours. */
size_t stacks_resident_estimate(void);

void stacks_read(struct stacks_figures *figures);

/* Under the lock of the stacks, or the world stopped. */
extern struct list stacks_of_fibers;
extern struct list stacks_registered;

/* The world stopped: the fiber of this stack is dead. */
void stack_put_stw(struct midden_stack *stack);

#endif
