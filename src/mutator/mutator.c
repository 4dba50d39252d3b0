#include "mutator/mutator.h"

#include <errno.h>
#include <string.h>

#include "alloc/central.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/wait.h"
#include "meta/fixalloc.h"
#include "mutator/barrier.h"
#include "mutator/fiber.h"
#include "mutator/handshake.h"
#include "mutator/world.h"

enum { GATE_POLL_NS = 50000, GATE_SPINS = 500 };

struct lock mutator_start_lock = LOCK_INIT(LOCK_RANK_STARTS);
struct lock mutator_list_lock = LOCK_INIT(LOCK_RANK_THREADS);
struct list mutator_list;
uint32_t mutator_gate;
struct mutator_hooks mutator_hooks;

static struct fixalloc mutators;

void mutator_init(void) {
  fixalloc_init(&mutators, sizeof(struct mutator), true, PERSIST_MUTATOR);
  barrier_init();
}

/* ---- attaching ---- */

/* It ends, or detaches, in a call that it said may block (a cancelled read, say), where nothing waits for it: what it does to the
 * heap from here on must not be beside a stop, or a handshake that is done for it. */
static void end_blocking(struct mutator *self) {
  if (LIKELY(!self->is_blocked)) return;
  mutator_leave_safe(self);
  self->is_blocked = false;
}

/* The C library is back on the thread's own stack by now.  The thread goes in the next round of destructors: what the program has
 * by pthread_setspecific is a root until its own destructors have it. */
static void on_thread_exit(void *argument) {
  (void)argument;
  struct mutator *self = mutator_self_if_attached();
  if (self == NULL) return;
  end_blocking(self);
  mutator_enter(self);
  if (self->fiber != NULL) os_context_unwound(&self->own_stack.context);
  fiber_abandon(self);
  mutator_leave(self);
  bool is_first = !self->is_ending;
  self->is_ending = true;
  if (!is_first || os_on_thread_exit(on_thread_exit, self) != 0) mutator_detach();
}

/* A base that the program names mostly lies in the stack that the system knows. */
static int find_stack(struct mutator *mutator, uintptr_t stack_base) {
  struct os_range *stack = &mutator->stack;
  int error = os_current_stack(stack);
  mutator->stack_base = stack_base != 0 ? stack_base : stack->end;
  if (stack_base == 0) return error;
  bool is_known = error == 0 && stack->start < stack_base && stack_base <= stack->end;
  if (!is_known) *stack = (struct os_range){0};
  return 0;
}

static bool lies_in(struct os_range stack, uintptr_t pointer) { return stack.start < pointer && pointer <= stack.end; }

/* Where the alternate stack is an array of a function's, it lies in the stack that is known. */
static struct os_range find_alternate_stack(struct mutator *self, uintptr_t stack_pointer) {
  if (self->interrupted.end != 0) return self->interrupted; /* the handler of the stop signal was told */
  bool in_use;
  struct os_range alternate = os_alternate_stack(&in_use);
  if (lies_in(self->stack, alternate.end)) self->has_inner_alternate = true;
  return in_use && lies_in(alternate, stack_pointer) ? alternate : (struct os_range){0};
}

/* The threads lock stands in for a critical section, which the thread cannot enter yet: no fork sees this half done. */
static struct mutator *new_mutator(void) {
  lock_acquire(&mutator_list_lock);
  struct mutator *mutator = fixalloc_alloc(&mutators);
  lock_release(&mutator_list_lock);
  return mutator;
}

/* What hangs on a mutator goes with it. */
static void free_mutator_locked(struct mutator *mutator) {
  if (mutator_hooks.forget != NULL) mutator_hooks.forget(mutator);
  barrier_forget(mutator);
  fixalloc_free(&mutators, mutator);
}

static void delete_mutator(struct mutator *mutator) {
  lock_acquire(&mutator_list_lock);
  if (mutator->link.list != NULL) {
    list_remove(&mutator_list, &mutator->link);
    cache_fold_counts_locked(&mutator->cache);
  }
  free_mutator_locked(mutator);
  lock_release(&mutator_list_lock);
}

static void attached_here(uintptr_t stack_pointer, void *argument) {
  struct mutator *self = argument;
  mutator_enter(self);
  mutator_note_stack(self, stack_pointer);
  mutator_hooks.attached(self);
  mutator_leave(self);
}

static void announce_attached(struct mutator *self) {
  if (mutator_hooks.attached != NULL) os_call_with_registers(attached_here, self);
}

static int attach(uintptr_t stack_base, bool is_own) {
  if (mutator_self_if_attached() != NULL) return 0;
  struct mutator *self = new_mutator();
  if (self == NULL) return -ENOMEM;
  int error = find_stack(self, stack_base);
  if (error == 0 && mutator_hooks.attach != NULL) error = mutator_hooks.attach(self);
  if (error == 0) error = os_on_thread_exit(on_thread_exit, self);
  if (error != 0) {
    delete_mutator(self);
    return error;
  }
  self->is_own = is_own;
  self->thread_id = os_thread_id();
  self->thread_pointer = os_thread_pointer();
  self->thread_handle = os_thread_handle();
  (void)find_alternate_stack(self, 0); /* to have seen it */
  os_unblock_signal(world_signal());
  /* On the list before it can be seen to run: a stop that begins after the unlock finds it. */
  lock_acquire(&mutator_list_lock);
  list_push_back(&mutator_list, &self->link);
  cache_self = &self->cache;
  barrier_bind(self);
  lock_release(&mutator_list_lock);
  announce_attached(self);
  return 0;
}

int mutator_attach(uintptr_t stack_base) { return attach(stack_base, false); }

int mutator_attach_own(void) {
  lock_acquire(&mutator_start_lock);
  int error = attach(0, true);
  lock_release(&mutator_start_lock);
  return error;
}

struct thread_to_start {
  struct mutator *self;
  void (*run)(void *argument);
  void *argument;
  const char *name;
  int error;
};

static void start_locked(struct thread_to_start *thread) {
  lock_acquire(&mutator_start_lock);
  thread->error = os_start_thread(thread->run, thread->argument, thread->name);
  lock_release(&mutator_start_lock);
}

static void start_while_safe(uintptr_t stack_pointer, void *argument) {
  struct thread_to_start *thread = argument;
  struct os_signals before;
  mutator_begin_wait(thread->self, stack_pointer, &before);
  start_locked(thread);
  mutator_end_wait(thread->self, &before);
}

/* Making a thread takes locks of the C library, with the stop signal blocked.  A stopped thread may hold them: this one
 * must count as stopped too. */
int mutator_start_own(void (*run)(void *argument), void *argument, const char *name) {
  struct thread_to_start thread = {mutator_self_if_attached(), run, argument, name, 0};
  /* Other handlers of a fork may use the heap, while this thread holds the lock. */
  if (thread.self != NULL && mutator_gate_is_mine(thread.self)) return -EAGAIN;
  if (thread.self == NULL || atomic_load_relaxed(&thread.self->state) == MUTATOR_SAFE) {
    start_locked(&thread);
  } else {
    os_call_with_registers(start_while_safe, &thread);
  }
  return thread.error;
}

size_t mutator_count_locked(void) {
  size_t count = 0;
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) count += !mutator_from(link)->is_own;
  return count;
}

bool mutator_others_run(struct mutator *self) {
  bool run = false;
  mutator_lock_safely(self, &mutator_list_lock);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    const struct mutator *other = mutator_from(link);
    run |= other != self && !other->is_own && atomic_load_relaxed(&other->state) == MUTATOR_RUNNING;
  }
  lock_release(&mutator_list_lock);
  return run;
}

struct mutator *mutator_self(void) {
  struct mutator *self = mutator_self_if_attached();
  if (LIKELY(self != NULL)) return self;
  int error = mutator_attach(0);
  CHECK(error == 0, "cannot attach thread %u: %s", os_thread_id(), strerror(-error));
  return mutator_self_if_attached();
}

int mutator_detach(void) {
  struct mutator *self = mutator_self_if_attached();
  if (self == NULL) return -ESRCH;
  if (self->own_stack.is_parked) return -EBUSY;
  end_blocking(self);
  os_on_thread_exit(on_thread_exit, NULL);
  mutator_enter(self);
  if (mutator_hooks.detaching != NULL) mutator_hooks.detaching(self);
  cache_retire(&self->cache);
  mutator_leave(self);
  /* From here on it holds no object: an empty stack, no thread-local storage. */
  self->thread_pointer = 0;
  mutator_enter_safe(self, self->stack_base);
  cache_self = &cache_none;
  barrier_bind(NULL);
  delete_mutator(self);
  return 0;
}

/* ---- critical sections ---- */

/* By the mutator's number of the thread: in a fork's child it is the parent's until the library's handler has run, and other
 * handlers may come before. */
static bool gate_is_closed(const struct mutator *self) {
  uint32_t owner = atomic_load_seq_cst(&mutator_gate);
  return owner != 0 && owner != self->thread_id;
}

/* The collector's transitions keep it closed for a few microseconds: those are waited for on the spot. */
static void await_gate(void) {
  for (unsigned spins = 0; atomic_load_acquire(&mutator_gate) != 0 && spins < GATE_SPINS; spins++) atomic_pause();
  uint32_t owner = atomic_load_acquire(&mutator_gate);
  if (owner != 0) wait_on_word(&mutator_gate, owner);
}

void mutator_enter_slow(struct mutator *self) {
  while (self->critical == 1 && gate_is_closed(self)) {
    mutator_leave(self);
    await_gate();
    atomic_store_seq_cst(&self->critical, self->critical + 1);
  }
}

static void stop_here(uintptr_t stack_pointer, void *argument) {
  struct mutator *self = argument;
  struct os_signals before;
  mutator_begin_wait(self, stack_pointer, &before);
  mutator_end_wait(self, &before);
}

void mutator_leave_slow(struct mutator *self) {
  if (self->critical != 0 || self->inside_store != 0 || atomic_load_relaxed(&self->state) != MUTATOR_RUNNING) return;
  (void)atomic_exchange_acquire(&self->stop_pending, false); /* pairs with world_interrupt */
  handshake_poll(self);
  if (world_is_stopped() && !world_is_stopped_by(self)) os_call_with_registers(stop_here, self);
}

/* Most sections last for a microsecond. */
static void await_outside(const struct mutator *mutator) {
  static uint32_t never;
  for (unsigned spins = 0; atomic_load_seq_cst(&mutator->critical) != 0; spins++) {
    if (spins < GATE_SPINS) {
      atomic_pause();
    } else {
      wait_on_word_for(&never, 0, GATE_POLL_NS);
    }
  }
}

void mutator_close_gate(struct mutator *self) {
  atomic_store_seq_cst(&mutator_gate, self->thread_id);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    if (mutator_from(link) != self) await_outside(mutator_from(link));
  }
}

void mutator_open_gate(void) {
  atomic_store_seq_cst(&mutator_gate, 0u);
  wake_all(&mutator_gate);
}

static void forget_locked(struct mutator *mutator) {
  list_remove(&mutator_list, &mutator->link);
  cache_retire(&mutator->cache);
  cache_fold_counts_locked(&mutator->cache);
  free_mutator_locked(mutator);
}

void mutator_forget_others(struct mutator *self) {
  struct link *next;
  for (struct link *link = mutator_list.first; link != NULL; link = next) {
    next = link->next;
    struct mutator *mutator = mutator_from(link);
    if (mutator != self) forget_locked(mutator);
  }
  fiber_abandon_others(self);
  self->thread_id = os_thread_id();
}

static bool has_ended(const struct mutator *mutator) {
  return atomic_load_seq_cst(&mutator->state) == MUTATOR_SAFE && os_signal_thread(mutator->thread_id, 0) == -ESRCH;
}

void mutator_forget_ended(struct mutator *self) {
  mutator_lock_safely(self, &mutator_list_lock);
  mutator_enter(self);
  struct link *next;
  for (struct link *link = mutator_list.first; link != NULL; link = next) {
    next = link->next;
    struct mutator *mutator = mutator_from(link);
    if (mutator == self || !has_ended(mutator)) continue;
    fiber_abandon(mutator);
    forget_locked(mutator);
  }
  lock_release(&mutator_list_lock);
  mutator_leave(self);
}

/* ---- the SAFE state ---- */

void mutator_note_stack(struct mutator *self, uintptr_t stack_pointer) {
  ASSERT(self == mutator_self_if_attached());
  self->stack_pointer = stack_pointer;
  self->alternate_stack = find_alternate_stack(self, stack_pointer);
}

static void become_safe(struct mutator *self) {
  ASSERT(self->critical == 0);
  atomic_store_seq_cst(&self->state, MUTATOR_SAFE);
  world_acknowledge(self);
}

void mutator_enter_safe_asking(struct mutator *self, uintptr_t stack_pointer) {
  mutator_note_stack(self, stack_pointer);
  become_safe(self);
}

/* What lies outside of the stack that is known may also be a coroutine's, of the program's making. */
void mutator_enter_safe(struct mutator *self, uintptr_t stack_pointer) {
  if (LIKELY(lies_in(self->stack, stack_pointer) && !self->has_inner_alternate)) {
    self->stack_pointer = stack_pointer;
    self->alternate_stack = self->interrupted;
  } else {
    mutator_note_stack(self, stack_pointer);
  }
  become_safe(self);
}

/* SAFE -> RUNNING, when nobody holds it. */
static void run_again(struct mutator *self) {
  uint32_t seen = MUTATOR_SAFE;
  while (UNLIKELY(!atomic_cas_seq_cst(&self->state, &seen, (uint32_t)MUTATOR_RUNNING))) {
    wait_on_word(&self->state, MUTATOR_HELD);
    seen = MUTATOR_SAFE;
  }
}

void mutator_leave_safe(struct mutator *self) {
  for (;;) {
    world_wait_resumed();
    run_again(self);
    if (LIKELY(!world_is_stopped())) return;
    atomic_store_seq_cst(&self->state, MUTATOR_SAFE);
    world_acknowledge(self);
  }
}

struct copy_of_frame {
  uintptr_t *words;
  uintptr_t end;
};

static NO_SANITIZE void copy_frame(uintptr_t stack_pointer, void *argument) {
  struct copy_of_frame *copy = argument;
  const uintptr_t *from = (const uintptr_t *)round_down(stack_pointer, sizeof(uintptr_t));
  size_t count = (copy->end - (uintptr_t)from) / sizeof(uintptr_t);
  CHECK(count <= MUTATOR_SAVED_WORDS, "a frame of %zu words does not fit", count);
  for (size_t i = 0; i < MUTATOR_SAVED_WORDS; i++) copy->words[i] = i < count ? from[i] : 0;
}

void mutator_copy_registers(uintptr_t *words, uintptr_t end) {
  struct copy_of_frame copy = {.words = words, .end = end};
  os_call_with_registers(copy_frame, &copy);
}

/* The frame holds the caller's callee-saved registers, wherever the compiler chose to push them, and below it lie those
 * that it did not touch. */
void mutator_enter_blocking(struct mutator *self, uintptr_t frame_end) {
  mutator_copy_registers(self->saved_words, frame_end);
  mutator_enter_safe(self, frame_end);
}

void mutator_begin_wait(struct mutator *self, uintptr_t stack_pointer, struct os_signals *before) {
  os_block_signals(before);
  mutator_enter_safe_asking(self, stack_pointer);
}

void mutator_end_wait(struct mutator *self, const struct os_signals *before) {
  mutator_leave_safe(self);
  os_restore_signals(before);
}

void mutator_wait_on_word(struct mutator *self, uintptr_t stack_pointer, uint32_t *word, uint32_t value, uint64_t ns) {
  struct os_signals before;
  mutator_begin_wait(self, stack_pointer, &before);
  wait_on_word_for(word, value, ns);
  mutator_end_wait(self, &before);
}

struct wait_for_lock {
  struct mutator *self;
  struct lock *lock;
};

static void lock_while_safe(uintptr_t stack_pointer, void *argument) {
  struct wait_for_lock *wait = argument;
  struct os_signals before;
  mutator_begin_wait(wait->self, stack_pointer, &before);
  lock_acquire(wait->lock);
  mutator_end_wait(wait->self, &before);
}

void mutator_lock_safely(struct mutator *self, struct lock *lock) {
  ASSERT(self->critical == 0);
  if (lock_try(lock)) return;
  if (atomic_load_relaxed(&self->state) == MUTATOR_SAFE) { /* it forks while blocking */
    lock_acquire(lock);
    return;
  }
  struct wait_for_lock wait = {.self = self, .lock = lock};
  os_call_with_registers(lock_while_safe, &wait);
}

/* ---- roots ---- */

/* One that calls pthread_exit in a fiber is led back to its own stack, and may be stopped there before on_thread_exit. */
static uintptr_t base_in_use(const struct mutator *mutator) {
  const struct mutator_own_stack *own = &mutator->own_stack;
  bool is_unwound = own->is_parked && lies_in(own->stack, mutator->stack_pointer);
  return UNLIKELY(is_unwound) ? own->base : mutator->stack_base;
}

static void visit_frames(const struct mutator *mutator, mutator_visit_fn *visit, void *argument) {
  struct os_range alternate = mutator->alternate_stack;
  uintptr_t from = mutator->stack_pointer, base = base_in_use(mutator);
  if (alternate.start < alternate.end) {
    /* Where it stood on its own stack is not known: all of that counts. */
    visit(argument, (struct os_range){from, alternate.end});
    visit(argument, os_mapped_stack(mutator->stack));
    return;
  }
  bool is_unknown = base == mutator->stack_base && mutator_is_on_unknown_stack(mutator);
  if (UNLIKELY(is_unknown) && !os_stack_reaches(mutator->stack, from)) {
    visit(argument, os_mapped_stack(mutator->stack)); /* likewise; where the other one ends is not known either */
    return;
  }
  if (from < base) visit(argument, (struct os_range){round_down(from, sizeof(void *)), base});
}

static void visit_own_stack(const struct mutator_own_stack *own, mutator_visit_fn *visit, void *argument) {
  if (!own->is_parked) return;
  uintptr_t from = round_down(own->context.stack_pointer, sizeof(void *));
  if (from < own->base) visit(argument, (struct os_range){from, own->base});
  uintptr_t saved = (uintptr_t)own->saved_words;
  visit(argument, (struct os_range){saved, saved + sizeof own->saved_words});
}

bool mutator_is_on_known_stack(const struct mutator *mutator) {
  struct os_range stack = mutator->stack;
  return stack.start <= mutator->stack_pointer && mutator->stack_pointer <= mutator->stack_base &&
         mutator->stack_base <= stack.end;
}

bool mutator_is_on_unknown_stack(const struct mutator *mutator) {
  bool is_alternate = mutator->alternate_stack.start < mutator->alternate_stack.end;
  return !is_alternate && lies_in(mutator->stack, mutator->stack_base) &&
         !lies_in(mutator->stack, mutator->stack_pointer);
}

void mutator_visit_stack(const struct mutator *mutator, mutator_visit_fn *visit, void *argument) {
  visit_frames(mutator, visit, argument);
  visit_own_stack(&mutator->own_stack, visit, argument);
  uintptr_t saved = (uintptr_t)mutator->saved_words;
  visit(argument, (struct os_range){saved, saved + sizeof mutator->saved_words});
}

bool mutator_visit_storage(const struct mutator *mutator, const struct os_tls_module *modules, size_t module_count,
                           bool running, mutator_visit_fn *visit, void *argument) {
  return mutator->thread_pointer == 0 ||
         os_visit_thread_storage(mutator->thread_pointer, modules, module_count, running, visit, argument);
}
