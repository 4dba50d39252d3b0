#include "api/start.h"

#include <errno.h>
#include <string.h>

#include "api/allocate.h"
#include "api/fork.h"
#include "api/options.h"
#include "api/profile.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "gc/ahead.h"
#include "gc/background.h"
#include "gc/collector.h"
#include "gc/idle.h"
#include "gc/profile.h"
#include "gc/scavenger.h"
#include "gc/settle.h"
#include "gc/sweep.h"
#include "gc/work.h"
#include "meta/persist.h"
#include "mutator/roots.h"
#include "mutator/world.h"
#include "observe/check.h"
#include "observe/trace.h"
#include "observe/verify.h"
#include "page/pageheap.h"
#include "span/guard.h"

static bool has_started; /* atomic; release at the end of the start, acquire by who relies on it */
static struct lock start_lock = LOCK_INIT(LOCK_RANK_INIT);
static THREAD_LOCAL bool is_held; /* that lock, by this thread, which forks */

unsigned start_stress_interval;

/* Address space to reserve: generous, since it costs nothing, except where address space itself is rationed. */
static size_t arena_bytes(void) {
  uint64_t wanted = max_size((size_t)os_physical_memory_bytes() * 8, (size_t)64 << 30);
  uint64_t left = os_address_space_left_bytes();
  if (left != UINT64_MAX) wanted = min_size(wanted, left / 2);
  return round_down(min_size(wanted, (size_t)1 << 44), (size_t)4 << 20);
}

static int start_memory(const struct midden_options *options) {
  static const struct pageheap_hooks hooks = {.now_ns = os_now_ns,
                                              .release = os_release,
                                              .reclaim = sweep_reclaim,
                                              .metadata_bytes = persist_total_bytes,
                                              .press = collector_press,
                                              .low = ahead_low,
                                              .release_tables = os_release};
  int error = arena_init(&heap_arena, arena_bytes());
  if (error != 0) return error;
  heap_arena.limit_bytes = options->max_heap_bytes;
  heap_arena.huge_pages = !options->small_pages && arena_huge_page_bytes() != 0;
  pageheap_init(&heap_pages, &heap_arena, &hooks);
  return 0;
}

static void start_roots(const struct midden_options *options) {
  roots_scan_modules(!options->ignore_modules);
  /* The heap's own words that look like addresses in it. */
  roots_exclude((struct os_range){(uintptr_t)attr_not_a_root_start, (uintptr_t)attr_not_a_root_end});
}

static void start_debugging(const struct midden_options *options) {
  bool stress = (options->debug & MIDDEN_DEBUG_STRESS) != 0;
  start_stress_interval = stress ? options->stress_interval : 0;
  guard_poison = (options->debug & MIDDEN_DEBUG_POISON) != 0;
  guard_active = guard_poison || (options->debug & MIDDEN_DEBUG_REDZONE) != 0 || memcheck_active;
  cache_single_slots = stress || guard_active;
  if ((options->debug & MIDDEN_DEBUG_VERIFY) != 0) {
    collector_verifier = verify_heap_stw;
    settle_names_stuck = true;
  }
  if ((options->debug & MIDDEN_DEBUG_CHECK) != 0) collector_checker = check_marks_stw;
  trace_init(options->trace != 0, options->trace_file);
}

static void start_background(const struct midden_options *options) {
  enum { NS_PER_MS = 1000000 };
  uint64_t after_ns = options->scavenge_after_ms < 0 ? UINT64_MAX : (uint64_t)options->scavenge_after_ms * NS_PER_MS;
  scavenger_init(&heap_scavenger, &heap_pages, os_thread_cpu_ns, after_ns);
  if (options->trace != 0) heap_scavenger.report = trace_scavenge;
  if (options->background < 0) return;
  background_register(scavenger_task);
  if (options->mode == MIDDEN_MODE_BARRIER || options->mode == MIDDEN_MODE_DIRTY) ahead_init();
  if (options->idle_collect_ms > 0) idle_init((uint64_t)options->idle_collect_ms * NS_PER_MS);
  background_enable();
}

static int start_locked(const struct midden_options *given) {
  enum { NS_PER_US = 1000 };
  int error = fork_init(); /* first of all: a fork waits for the rest */
  if (error != 0) return error;
  os_init();
  struct midden_options options;
  error = options_resolve(&options, given);
  if (error == 0) error = work_init();
  memcheck_init((options.debug & MIDDEN_DEBUG_NO_TOOLS) == 0);
  if (error == 0) error = start_memory(&options);
  if (error == 0) error = world_init(options.suspend_signal);
  if (error != 0) return error;
  mutator_init();
  allocate_init();
  start_roots(&options);
  start_debugging(&options);
  struct pacer pacer = {.percent = options.percent,
                        .min_heap_bytes = options.min_heap_bytes,
                        .initial_heap_bytes = options.initial_heap_bytes,
                        .memory_limit_bytes = options.memory_limit_bytes,
                        .max_heap_bytes = options.max_heap_bytes};
  uint64_t brief_stop_ns = options.brief_stop_us < 0 ? 0 : (uint64_t)options.brief_stop_us * NS_PER_US;
  collector_init(&pacer, options.markers, options.mode, options.generations, brief_stop_ns);
  background_register(sweep_background);
  start_background(&options);
  profile_init();
  profile_set_options(&options);
  return 0;
}

static int start(const struct midden_options *given, uintptr_t stack_base) {
  bool locks = !is_held; /* other handlers of a fork may use the library */
  os_ask_loader();
  if (locks) lock_acquire(&start_lock);
  int error = -EALREADY;
  if (!atomic_load_relaxed(&has_started)) {
    error = start_locked(given);
    /* The first thread is attached before others can start using the heap. */
    if (error == 0) atomic_store_release(&has_started, true);
  }
  if (locks) lock_release(&start_lock);
  if (error == 0) error = mutator_attach(stack_base);
  if (error == 0) profile_start_by_options();
  return error;
}

static void ensure(uintptr_t stack_base) {
  if (LIKELY(atomic_load_acquire(&has_started))) return;
  int error = start(NULL, stack_base);
  CHECK(error == 0 || error == -EALREADY, "cannot start: %s", strerror(-error));
}

void start_ensure(void) { ensure(0); }

int start_attach(uintptr_t stack_base) {
  ensure(stack_base);
  return mutator_attach(stack_base);
}

bool start_hold(void) {
  if (LIKELY(atomic_load_acquire(&has_started))) return true;
  lock_acquire(&start_lock);
  is_held = !atomic_load_relaxed(&has_started);
  if (!is_held) lock_release(&start_lock);
  return !is_held;
}

void start_let_go(void) {
  if (!is_held) return;
  is_held = false;
  lock_release(&start_lock);
}

struct mutator *start_self_slow(void) {
  start_ensure();
  return mutator_self();
}

struct mutator *start_self_or_null_slow(void) {
  start_ensure();
  return mutator_attach(0) == 0 ? mutator_self_if_attached() : NULL;
}

int midden_init(const struct midden_options *options) { return start(options, 0); }

unsigned midden_version(void) { return MIDDEN_VERSION_MAJOR << 16 | MIDDEN_VERSION_MINOR << 8 | MIDDEN_VERSION_PATCH; }
