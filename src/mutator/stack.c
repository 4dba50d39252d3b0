#include "mutator/stack.h"

#include <string.h>

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "meta/fixalloc.h"
#include "os/os_switch.h"
#include "page/pageheap.h"

/* Sanitizers multiply what a frame needs. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FRAME_FACTOR = 4 };
#else
enum { FRAME_FACTOR = 1 };
#endif

/* The lists of idle stacks: one for each size, and the last for those that are larger. */
enum { SIZES = 6, LARGER = SIZES, LISTS };
_Static_assert(STACK_LEAST_BYTES << (SIZES - 1) == STACK_CACHED_MOST_BYTES, "a list for each size");

enum { TRIM_INTERVAL_NS = 1000000000, TOP_BYTES = 16 << 10 };

struct list stacks_of_fibers;
struct list stacks_registered;

static struct lock lock = LOCK_INIT(LOCK_RANK_STACKS);
static struct fixalloc records, registers;

/* Under lock. */
static struct {
  struct list list;
  size_t idle_least; /* see the header */
} idle[LISTS];
static uint64_t trimmed_ns;
static size_t idle_bytes, span_count;

void stacks_init(void) {
  fixalloc_init(&records, sizeof(struct midden_stack), true, PERSIST_MUTATOR);
  fixalloc_init(&registers, STACK_SAVED_WORDS * sizeof(uintptr_t), true, PERSIST_MUTATOR);
}

/* ---- sizes ---- */

static size_t guard_bytes(void) { return max_size(os_page_bytes(), PAGE_BYTES); }

/* What a stack of at least `bytes` can use, or 0 where that is absurd.  Whole OS pages, which go back to the system as such. */
static size_t usable_bytes(size_t bytes) {
  if (bytes == 0) bytes = STACK_DEFAULT_BYTES;
  if (bytes > PTRDIFF_MAX / (2 * FRAME_FACTOR)) return 0;
  bytes = max_size(bytes, max_size(STACK_LEAST_BYTES, guard_bytes())) * FRAME_FACTOR;
  if (bytes > STACK_CACHED_MOST_BYTES) return round_up(bytes, guard_bytes());
  return (size_t)1 << (highest_bit(bytes - 1) + 1);
}

static unsigned list_of(size_t usable) {
  if (usable > STACK_CACHED_MOST_BYTES) return LARGER;
  return highest_bit(usable / STACK_LEAST_BYTES);
}

static size_t stack_usable(const struct midden_stack *stack) { return stack->high - stack->low; }

/* ---- spans ---- */

/* Old data below the part that is used first would stay resident for nothing. */
static void drop_old_pages(const struct span *span) {
  if (!span->needs_zero) return;
  uintptr_t low = round_up(span->start, os_page_bytes());
  uintptr_t end = round_down(span_end(span) - TOP_BYTES, os_page_bytes());
  if (low < end) os_release((void *)low, end - low);
}

/* OS pages may be larger than ours: span and guard are aligned to them. */
static struct span *make_span(size_t usable) {
  size_t pages = (usable + guard_bytes()) >> PAGE_SHIFT;
  struct span *span = pageheap_alloc_aligned(&heap_pages, pages, guard_bytes(), SPAN_STACK, true);
  if (span == NULL) return NULL;
  drop_old_pages(span);
  arena_advise_sparse(&heap_arena, span->start, span_bytes(span), true);
  if (os_guard((void *)span->start, guard_bytes()) == 0) return span;
  arena_advise_sparse(&heap_arena, span->start, span_bytes(span), false);
  pageheap_free_unused(&heap_pages, span);
  return NULL;
}

static struct midden_stack *make(size_t usable) {
  struct midden_stack *stack = fixalloc_alloc(&records);
  if (stack == NULL) return NULL;
  stack->span = make_span(usable);
  if (stack->span == NULL) {
    fixalloc_free(&records, stack);
    return NULL;
  }
  stack->low = stack->span->start + guard_bytes();
  stack->high = span_end(stack->span);
  stack->checker_number = memcheck_stack_begin(stack->low, stack->high);
  return stack;
}

/* Not done when the stack is put back, which the collector does while the world is stopped. */
static void destroy_context(struct midden_stack *stack) {
  os_destroy_thread_state(stack->thread_state);
  stack->thread_state = NULL;
}

/* Gives an idle stack's span back, all of it released.  False where the guard cannot be taken away. */
static bool unmake(struct midden_stack *stack) {
  struct span *span = stack->span;
  destroy_context(stack);
  if (os_unguard((void *)span->start, guard_bytes()) != 0) return false;
  memcheck_stack_end(stack->checker_number);
  memcheck_hide(span->start, span_bytes(span));
  bool released = os_release((void *)span->start, span_bytes(span)) == 0;
  arena_advise_sparse(&heap_arena, span->start, span_bytes(span), false);
  if (released) {
    pageheap_free_released(&heap_pages, span);
  } else {
    pageheap_free(&heap_pages, span);
  }
  fixalloc_free(&records, stack);
  return true;
}

/* ---- the idle ---- */

static struct midden_stack *from_link(struct link *link) { return CONTAINER_OF(link, struct midden_stack, link); }

static struct midden_stack *pop_idle_locked(unsigned i) {
  struct link *link = list_pop_front(&idle[i].list);
  if (link == NULL) return NULL;
  idle[i].idle_least = min_size(idle[i].idle_least, idle[i].list.count);
  idle_bytes -= span_bytes(from_link(link)->span);
  return from_link(link);
}

static void push_idle_locked(struct midden_stack *stack) {
  stack->fiber = NULL;
  list_push_front(&idle[list_of(stack_usable(stack))].list, &stack->link);
  idle_bytes += span_bytes(stack->span);
}

/* Takes a stack off the far end, where those lie that were freed first. */
static struct midden_stack *take_oldest(unsigned i) {
  lock_acquire(&lock);
  struct link *link = idle[i].list.last;
  if (link != NULL) {
    list_remove(&idle[i].list, link);
    idle[i].idle_least = min_size(idle[i].idle_least, idle[i].list.count);
    idle_bytes -= span_bytes(from_link(link)->span);
    atomic_store_relaxed(&span_count, span_count - 1);
  }
  lock_release(&lock);
  return link != NULL ? from_link(link) : NULL;
}

static size_t trim_list(unsigned i, size_t count) {
  size_t freed = 0;
  while (count-- != 0) {
    struct midden_stack *stack = take_oldest(i);
    if (stack == NULL) return freed;
    size_t bytes = span_bytes(stack->span);
    if (unmake(stack)) {
      freed += bytes;
      continue;
    }
    lock_acquire(&lock);
    push_idle_locked(stack);
    atomic_store_relaxed(&span_count, span_count + 1);
    lock_release(&lock);
    return freed;
  }
  return freed;
}

static bool is_marking(void) { return atomic_load_relaxed(&span_marking); }

/* How many stacks of a size were not needed since the last time this was asked. */
static size_t count_unneeded(unsigned i) {
  lock_acquire(&lock);
  size_t count = i == LARGER ? idle[i].list.count : idle[i].idle_least;
  idle[i].idle_least = idle[i].list.count - min_size(count, idle[i].list.count);
  lock_release(&lock);
  return count;
}

size_t stacks_trim(void) {
  uint64_t now = os_now_ns();
  if (is_marking() || now - atomic_load_relaxed(&trimmed_ns) < TRIM_INTERVAL_NS) return 0;
  atomic_store_relaxed(&trimmed_ns, now);
  size_t freed = 0;
  for (unsigned i = 0; i < LISTS; i++) freed += trim_list(i, count_unneeded(i));
  return freed;
}

size_t stacks_trim_all(void) {
  if (is_marking()) return 0;
  size_t freed = 0;
  for (unsigned i = 0; i < LISTS; i++) freed += trim_list(i, SIZE_MAX);
  return freed;
}

size_t stacks_trim_some(size_t most) {
  size_t freed = 0;
  for (unsigned i = 0; i < LISTS && freed == 0 && !is_marking(); i++) freed = trim_list(i, most);
  return freed;
}

static bool has_larger_locked(void) { return idle[LARGER].list.count != 0; }

/* Stacks of unusual sizes are not kept longer than they must be. */
static void trim_larger(bool has_larger) {
  if (has_larger && !is_marking()) trim_list(LARGER, SIZE_MAX);
}

/* ---- taking and putting back ---- */

static struct midden_stack *take_idle(size_t usable) {
  if (list_of(usable) == LARGER) return NULL;
  lock_acquire(&lock);
  struct midden_stack *stack = pop_idle_locked(list_of(usable));
  lock_release(&lock);
  if (stack != NULL) destroy_context(stack);
  return stack;
}

static struct midden_stack *make_counted(size_t usable) {
  struct midden_stack *stack = make(usable);
  if (stack == NULL) return NULL;
  lock_acquire(&lock);
  atomic_store_relaxed(&span_count, span_count + 1);
  lock_release(&lock);
  return stack;
}

static struct midden_stack *take_memory(size_t bytes) {
  size_t usable = usable_bytes(bytes);
  if (usable == 0) return NULL;
  struct midden_stack *stack = take_idle(usable);
  if (stack == NULL) stack = make_counted(usable);
  /* It was hidden, or what ran on it before left its mark. */
  if (stack != NULL && memcheck_active) memcheck_open(stack->low, stack_usable(stack));
  return stack;
}

struct midden_stack *stack_take(size_t bytes, struct midden_fiber *fiber) {
  struct midden_stack *stack = take_memory(bytes);
  if (stack == NULL) return NULL;
  stack->fiber = fiber;
  stack->charged_in = atomic_load_relaxed(&account_period);
  lock_acquire(&lock);
  list_push_front(&stacks_of_fibers, &stack->link);
  lock_release(&lock);
  return stack;
}

static void forget_use(struct midden_stack *stack) { os_forget_stack((struct os_range){stack->low, stack->high}); }

void stack_put(struct midden_stack *stack) {
  forget_use(stack);
  lock_acquire(&lock);
  list_remove(&stacks_of_fibers, &stack->link);
  push_idle_locked(stack);
  bool has_larger = has_larger_locked();
  lock_release(&lock);
  trim_larger(has_larger);
}

void stack_put_stw(struct midden_stack *stack) {
  forget_use(stack);
  list_remove(&stacks_of_fibers, &stack->link);
  push_idle_locked(stack);
}

/* ---- registered stacks ---- */

static struct midden_stack *add_registered(struct midden_stack *stack) {
  stack->saved_words = fixalloc_alloc(&registers);
  if (stack->saved_words == NULL) return NULL;
  atomic_store_relaxed(&stack->pointer, stack->high);
  atomic_store_relaxed(&stack->is_running, false);
  lock_acquire(&lock);
  list_push_front(&stacks_registered, &stack->link);
  lock_release(&lock);
  return stack;
}

struct midden_stack *stack_register_new(size_t bytes) {
  struct midden_stack *stack = take_memory(bytes);
  if (stack == NULL || add_registered(stack) != NULL) return stack;
  lock_acquire(&lock);
  push_idle_locked(stack);
  lock_release(&lock);
  return NULL;
}

struct midden_stack *stack_register(uintptr_t low, uintptr_t high) {
  struct midden_stack *stack = fixalloc_alloc(&records);
  if (stack == NULL) return NULL;
  stack->low = low;
  stack->high = high;
  if (add_registered(stack) != NULL) return stack;
  fixalloc_free(&records, stack);
  return NULL;
}

void stack_unregister(struct midden_stack *stack) {
  bool is_ours = stack->span != NULL;
  if (is_ours) forget_use(stack);
  lock_acquire(&lock);
  list_remove(&stacks_registered, &stack->link); /* from here on no collector reads it */
  fixalloc_free(&registers, stack->saved_words);
  stack->saved_words = NULL;
  if (is_ours) push_idle_locked(stack);
  bool has_larger = has_larger_locked();
  lock_release(&lock);
  if (!is_ours) fixalloc_free(&records, stack);
  trim_larger(has_larger);
}

/* ---- for a collector that marks while the program runs ---- */

void stacks_visit_registered(void (*visit)(const struct midden_stack *stack, void *argument), void *argument) {
  lock_acquire(&lock);
  for (struct link *link = stacks_registered.first; link != NULL; link = link->next) visit(from_link(link), argument);
  lock_release(&lock);
}

size_t stacks_count_fibers(void) {
  lock_acquire(&lock);
  size_t count = stacks_of_fibers.count;
  lock_release(&lock);
  return count;
}

/* From the far end to the near one, where new ones come too. */
void stacks_put_dead(bool (*is_dead)(struct midden_stack *stack), size_t count) {
  lock_acquire(&lock);
  while (count-- != 0 && stacks_of_fibers.last != NULL) {
    struct midden_stack *stack = from_link(stacks_of_fibers.last);
    list_remove(&stacks_of_fibers, &stack->link);
    if (is_dead(stack)) {
      forget_use(stack);
      push_idle_locked(stack);
    } else {
      list_push_front(&stacks_of_fibers, &stack->link);
    }
  }
  lock_release(&lock);
}

/* ---- figures ---- */

void stacks_visit_fibers(void (*visit)(struct midden_fiber *fiber)) {
  for (struct link *link = stacks_of_fibers.first; link != NULL; link = link->next) visit(from_link(link)->fiber);
}

/* The top of each stack has been touched; deeper parts have been by few. */
size_t stacks_resident_estimate(void) { return atomic_load_relaxed(&span_count) * TOP_BYTES; }

void stacks_read(struct stacks_figures *figures) {
  lock_acquire(&lock);
  *figures = (struct stacks_figures){.fibers = stacks_of_fibers.count, .idle_bytes = idle_bytes};
  lock_release(&lock);
}
