/* Mutators: the threads that use the heap.
 *
 * A mutator is in one of three states, one word:
 *
 *     RUNNING   it runs the program's code.  To stop it, signal it                          -> SAFE, by its own thread
 *     SAFE      it touches no object and holds no lock of the heap; its stack may be        -> RUNNING, by its own thread
 *               scanned from `stack_pointer`                                                -> HELD, by compare and swap
 *     HELD      SAFE, and the collector acts for it (handshake.h); it cannot leave          -> SAFE, by who holds it
 *
 * and while RUNNING it may be inside a critical section, where it changes the heap's structures and takes their locks.
 * A stop signal that arrives there is remembered, and the thread becomes SAFE when it leaves the section.  So a stopped
 * world holds no lock of the heap, and finds every structure whole.
 *
 * Stopping (world.c) and leaving SAFE are two sides of one handshake: the collector stores the stop epoch, then reads
 * the state; the mutator stores RUNNING, then reads the epoch, and goes back to SAFE if the world is stopped.  All four
 * are sequentially consistent: at least one of the two sees the other.
 *
 * The gate.  Fork must find no thread inside a critical section, but cannot stop threads (one could hold a lock that the
 * C library's fork wants).  It closes the gate, which keeps threads from entering, and waits for those inside.  So does a
 * cycle beside the program where it steps from one phase to the next: each section sees one phase from its begin to its end. */
#ifndef MIDDEN_MUTATOR_MUTATOR_H
#define MIDDEN_MUTATOR_MUTATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloc/cache.h"
#include "base/list.h"
#include "base/lock.h"
#include "os/os.h"
#include "os/os_switch.h"

enum mutator_state { MUTATOR_RUNNING, MUTATOR_SAFE, MUTATOR_HELD };

enum { MUTATOR_SAVED_WORDS = 64 };

/* A thread's own stack, parked. */
struct mutator_own_stack {
  bool is_parked;
  struct os_context context;                  /* its stack_pointer is where the stack stopped */
  uintptr_t base;                             /* mutator.stack_base as it was */
  struct os_range stack;                      /* mutator.stack as it was */
  uintptr_t saved_words[MUTATOR_SAVED_WORDS]; /* registers that the program's own switch may keep elsewhere */
};

struct mutator {
  struct cache cache;       /* first, so that cache_self names the mutator too */
  struct link link;         /* list of mutators; under the threads lock */
  uint32_t state;           /* enum mutator_state; atomic */
  uint32_t handshake;       /* atomic; the last round that was answered; see handshake.h */
  uint32_t signalled_round; /* the round for which it was signalled; the collector's */
  uint32_t critical;        /* nesting of critical sections; atomic, written by its own thread */
  uint32_t inside_store;    /* 1: in a store with barrier, which midden_barrier_inside leads here for; likewise */
  bool stop_pending;        /* the signal came inside a critical section; atomic; its own thread and signal handler, or
                               who interrupts it (world_interrupt) */
  bool is_returning;        /* on its way out of midden_locked_call; its own thread and signal handler */
  uint8_t respites;         /* how often it may refuse to stop where that returned to; likewise */
  bool refused_to_stop;     /* atomic; the signal came there; set by the handler, taken by the stopping thread */
  bool is_blocked;          /* inside midden_blocking_enter; its own thread */
  bool is_own;              /* a thread of the library's own, which the program does not see; constant */
  bool is_ending;           /* its destructors of thread-specific values run; its own thread */
  bool is_starving;         /* where it waits for a cycle it is for want of memory; its own thread */
  bool is_base_told;        /* the root callback says where its stack ends; while the world is stopped */
  bool was_signalled;       /* for the stop that is, or was the last; under the threads lock */
  uint32_t thread_id;       /* the kernel's; constant */
  uintptr_t return_frame;   /* of the last midden_locked_call; its own thread and signal handler */
  uintptr_t thread_pointer; /* constant */
  uintptr_t thread_handle;  /* the C library's name of it; constant */
  uintptr_t stack_base;     /* highest address of the stack in use; its own thread */
  struct os_range stack; /* the stack in use as a whole; empty where the program named a base in none that is known */
  /* Stacks beside the thread's own; see fiber.h and stack.h. */
  struct midden_fiber *fiber;         /* which runs on this thread, or NULL; a root */
  struct midden_stack *foreign;       /* the program's own switch runs on it, or NULL */
  struct mutator_own_stack own_stack; /* the thread's own stack, while the thread runs on another */
  struct barrier_buffer *records; /* stores not yet looked at (barrier.h); NULL: none yet; its own, or who holds it */
  struct midden_tracer *tracer;   /* the gc layer's: what this thread marks with; NULL where nothing is marked by it */
  bool has_inner_alternate;       /* an alternate signal stack was seen in the stack in use; its own thread */
  struct os_range interrupted; /* the alternate signal stack that the stop signal came on; its handler's, else empty */
  /* Valid while SAFE, and in its own thread when that has said so; see mutator_note_stack. */
  uintptr_t stack_pointer;
  uintptr_t saved_words[MUTATOR_SAVED_WORDS]; /* registers without a place on the stack; see mutator_enter_blocking */
  struct os_range alternate_stack;            /* where stack_pointer lies on that; else empty */
};

/* What the gc layer wants to know of threads; all may be NULL.  Filled at start. */
struct mutator_hooks {
  int (*attach)(struct mutator *self);     /* a new one, not yet on the list: 0 or -ENOMEM */
  void (*attached)(struct mutator *self);  /* on the list, in a critical section of its own */
  void (*detaching)(struct mutator *self); /* the last critical section of its own */
  void (*forget)(struct mutator *mutator); /* it left the list; the threads lock is held */
  /* In the critical section of a switch to another stack: that of the fiber `to`, or else `registered`, or with both NULL the
   * thread's own.  What the thread uses of the stack that it leaves begins at `stack_pointer`. */
  void (*switching)(struct mutator *self, struct midden_fiber *to, struct midden_stack *registered,
                    uintptr_t stack_pointer);
};
extern struct mutator_hooks mutator_hooks;

/* Before any thread is attached. */
void mutator_init(void);

/* The calling thread's mutator, or NULL while it is not attached. */
static inline struct mutator *mutator_self_if_attached(void) {
  struct cache *cache = cache_self;
  return cache == &cache_none ? NULL : (struct mutator *)(void *)cache;
}

/* The same; attaches the thread if need be, and stops the process if that fails. */
struct mutator *mutator_self(void);

/* Attaches the calling thread; `stack_base` 0: ask the system.  0 or -errno. */
int mutator_attach(uintptr_t stack_base);

/* The same for a thread of the library's own. */
int mutator_attach_own(void);

/* Starts such a thread, which attaches itself before anything else; any thread may, in no critical section, with no lock of
 * the heap but the collector's.  0 or -errno.
 *
 * Nobody forks meanwhile.  The program does not know of these threads, and a thread that starts holds locks of the C library or
 * a sanitizer, which not all of these give back in a fork's child. */
int mutator_start_own(void (*run)(void *argument), void *argument, const char *name);
extern struct lock mutator_start_lock; /* held meanwhile */

/* Detaches the calling thread.  0; -ESRCH where it is not attached; -EBUSY on another stack than its own. */
int mutator_detach(void);

/* Critical sections nest. */
void mutator_enter_slow(struct mutator *self);
void mutator_leave_slow(struct mutator *self);

extern uint32_t mutator_gate; /* atomic; the kernel's name of the thread that closed it, or 0 */

/* Whether the calling thread has closed it. */
static inline bool mutator_gate_is_mine(const struct mutator *self) {
  return atomic_load_relaxed(&mutator_gate) == self->thread_id;
}

static inline void mutator_enter(struct mutator *self) {
  /* Pairs with mutator_close_gate: this stores, then loads; that one does so the other way round. */
  atomic_store_seq_cst(&self->critical, self->critical + 1);
  if (UNLIKELY(atomic_load_seq_cst(&mutator_gate) != 0)) mutator_enter_slow(self);
}

static inline void mutator_leave(struct mutator *self) {
  atomic_store_release(&self->critical, self->critical - 1);
  atomic_signal_barrier();
  if (UNLIKELY(atomic_load_relaxed(&self->stop_pending))) mutator_leave_slow(self);
}

/* Says from where on the calling thread's stack is in use, for mutator_visit_stack.  Costs a system call, which tells whether it runs
 * on its alternate signal stack. */
void mutator_note_stack(struct mutator *self, uintptr_t stack_pointer);

/* Becomes SAFE, the caller's registers saved; and RUNNING again, waiting while the world is stopped.  The first form makes that system
 * call only where the stack pointer is not in the stack that is known, or an alternate stack was seen inside of that: it is for calls
 * that block, which would cost several times as much with it. */
void mutator_enter_safe(struct mutator *self, uintptr_t stack_pointer);
void mutator_enter_safe_asking(struct mutator *self, uintptr_t stack_pointer);
void mutator_leave_safe(struct mutator *self);

/* The same around a wait, of a thread of the program's.  A handler of the program's that ran while its thread counts as stopped
 * would move references about under the markers: signals wait, as they do in a thread that was stopped by one. */
void mutator_begin_wait(struct mutator *self, uintptr_t stack_pointer, struct os_signals *before);
void mutator_end_wait(struct mutator *self, const struct os_signals *before);

/* One such wait, as wait_on_word_for. */
void mutator_wait_on_word(struct mutator *self, uintptr_t stack_pointer, uint32_t *word, uint32_t value, uint64_t ns);

/* Becomes SAFE until mutator_leave_safe, though the caller returns and its frame is given up: what the frame and the
 * callee-saved registers hold is copied.  `frame_end` is the caller's own FRAME_END. */
void mutator_enter_blocking(struct mutator *self, uintptr_t frame_end);

/* Copies what the callee-saved registers hold and the words up to `end`, where a caller's frame ends, into MUTATOR_SAVED_WORDS
 * words. */
void mutator_copy_registers(uintptr_t *words, uintptr_t end);

/* Takes a lock that the collector may hold across a stop, SAFE while waiting.  Not inside a critical section. */
void mutator_lock_safely(struct mutator *self, struct lock *lock);

/* The list of mutators. */
extern struct lock mutator_list_lock;
extern struct list mutator_list;

/* How many of them are the program's. */
size_t mutator_count_locked(void);

/* Whether another thread of the program runs: none may by the time of the answer, or the other way round. */
bool mutator_others_run(struct mutator *self);

static inline struct mutator *mutator_from(struct link *link) { return CONTAINER_OF(link, struct mutator, link); }

/* The gate.  The threads lock is held from before it closes until it is open. */
void mutator_close_gate(struct mutator *self);
void mutator_open_gate(void);

/* Threads that ended without a word, by the system call itself: those that count as SAFE, since nobody asks them anything, or were found
 * by a stop or a handshake (world_forget_ended).  Their stacks are read no more and may be unmapped; the records are given back.
 * Costs a system call for each thread that is SAFE.  One whose number another thread has by now counts as there until that one has ended.
 * The collector lock held and no cycle under way, in no critical section. */
void mutator_forget_ended(struct mutator *self);

/* In a fork's child, the threads lock held: the other threads are not there. */
void mutator_forget_others(struct mutator *self);

/* Visit what a SAFE thread or the caller itself may hold references in: its stack and saved registers; and its thread-local
 * storage, of which `modules` are those objects that have any (see os_visit_thread_storage).  They are two, since only the
 * compiler's own values may stand for an object by the address one past its end. */
typedef void mutator_visit_fn(void *argument, struct os_range range);
void mutator_visit_stack(const struct mutator *mutator, mutator_visit_fn *visit, void *argument);
bool mutator_visit_storage(const struct mutator *mutator, const struct os_tls_module *modules, size_t module_count,
                           bool running, mutator_visit_fn *visit, void *argument);

/* Whether all that is in use of the stack lies in the stack that is known, and so may be read.  A program's own coroutines
 * lead elsewhere, and set the base before or after they switch. */
bool mutator_is_on_known_stack(const struct mutator *mutator);

/* Whether it surely runs on a stack that nobody has told of: the base is that of its own. */
bool mutator_is_on_unknown_stack(const struct mutator *mutator);

#endif
