/* The settings: variables that programs read and write, and the functions that get and set the same.
 *
 * Some only are remembered: they tune what midden does by itself.  Four change what midden does:
 *
 *   GC_dont_gc              collections are disabled while it is not 0; GC_disable and GC_enable count in it
 *   GC_free_space_divisor   the heap grows by 200 / divisor percent between collections, which by default takes about
 *                           as much memory as libgc does; MIDDEN_PERCENT wins as long as the program leaves it at 3
 *   GC_no_dls               static data are no roots
 *   GC_stackbottom          the base of the main thread's stack
 *
 * A write to one of them is an ordinary store that nobody hears of, so midden is brought up to it at the next call that
 * passes here and at the start of each collection.  What midden was told last is kept in `config_told`, which is written
 * in midden_locked_call only. */
#include "shim.h"

/* ---- variables ---- */

int GC_all_interior_pointers = 1;
int GC_dont_expand;
int GC_dont_gc;
int GC_dont_precollect;
int GC_finalize_on_demand;
int GC_find_leak;
int GC_full_freq = 19;
int GC_java_finalization = 1;
int GC_no_dls;
int GC_parallel;
int GC_use_entire_heap;
GC_word GC_free_space_divisor = 3;
GC_word GC_max_retries;
GC_word GC_non_gc_bytes;
unsigned long GC_time_limit = GC_TIME_UNLIMITED;
char *GC_stackbottom;
GC_finalizer_notifier_proc GC_finalizer_notifier;
GC_on_heap_resize_proc GC_on_heap_resize;

enum { CONFIG_DIVISOR_DEFAULT = 3 };

static int config_time_limit_ns;
static int config_rate = 10;
static int config_max_prior_attempts = 1;
static int config_manual_vdb;
static int config_automatic_off;
static int config_force_unmap;
static int config_restart_signal;
static size_t config_min_bytes = 1;
static GC_word config_bytes_per_finalizer = 10000;
static GC_on_thread_event_proc config_on_thread_event;
static GC_sp_corrector_proc config_sp_corrector;

/* ---- following the variables ---- */

static struct {
  bool disabled;
  bool no_dls;
  GC_word divisor;
  bool automatic_off;
  int percent; /* midden's own, from before the first change */
  char *stack_bottom;
} config_told = {.divisor = CONFIG_DIVISOR_DEFAULT};

int config_percent(GC_word divisor) {
  enum { LEAST = 10, MOST = 400 };
  if (divisor == 0) return MOST;
  GC_word percent = 200 / divisor;
  return percent < LEAST ? LEAST : percent > MOST ? MOST : (int)percent;
}

static void config_follow_pace(void) {
  if (config_told.divisor == GC_free_space_divisor && config_told.automatic_off == (config_automatic_off != 0)) return;
  int percent = config_percent(GC_free_space_divisor);
  if (GC_free_space_divisor == CONFIG_DIVISOR_DEFAULT && config_told.percent != 0) percent = config_told.percent;
  int before = midden_set_percent(config_automatic_off ? -1 : percent);
  if (config_told.percent == 0) {
    config_told.percent = before;
    if (GC_free_space_divisor == CONFIG_DIVISOR_DEFAULT && !config_automatic_off) midden_set_percent(before);
  }
  config_told.divisor = GC_free_space_divisor;
  config_told.automatic_off = config_automatic_off != 0;
}

/* The variable speaks of the main thread, so only the main thread can be brought up to it. */
static void config_follow_stack_bottom(void) {
  char *bottom = GC_stackbottom;
  if (bottom == config_told.stack_bottom || !threads_in_main()) return;
  if (bottom) midden_thread_set_stack_base(bottom);
  config_told.stack_bottom = bottom;
}

/* Even if the variable says so already: a root callback may have told midden another base since. */
static void *config_set_stack_bottom_locked(void *bottom) {
  GC_stackbottom = config_told.stack_bottom = bottom;
  midden_thread_set_stack_base(bottom);
  return NULL;
}

/* A cycle that waits for this thread is ended before the new base meets the old stack pointer. */
void config_set_stack_bottom(void *bottom) { midden_locked_call(config_set_stack_bottom_locked, bottom); }

static void config_follow_disabling(void) {
  bool disabled = GC_dont_gc != 0;
  if (disabled == config_told.disabled) return;
  config_told.disabled = disabled;
  if (disabled)
    midden_disable();
  else
    midden_enable();
}

static void config_follow_modules(void) {
  bool no_dls = GC_no_dls != 0;
  if (no_dls == config_told.no_dls) return;
  config_told.no_dls = no_dls;
  midden_root_modules(!no_dls);
}

static void *config_follow_locked(void *unused) {
  config_follow_disabling();
  config_follow_modules();
  config_follow_pace();
  config_follow_stack_bottom();
  return unused;
}

void config_follow_variables(void) { midden_locked_call(config_follow_locked, NULL); }

void GC_disable(void) {
  __atomic_fetch_add(&GC_dont_gc, 1, __ATOMIC_RELAXED);
  config_follow_variables();
  midden_disable(); /* waits for a cycle that is under way, which nobody could inside of the locked call */
  midden_enable();
}

void GC_enable(void) {
  __atomic_fetch_sub(&GC_dont_gc, 1, __ATOMIC_RELAXED);
  config_follow_variables();
}

int GC_is_disabled(void) { return GC_dont_gc != 0; }

/* ---- getters and setters of what midden follows ---- */

void GC_set_free_space_divisor(GC_word value) {
  GC_free_space_divisor = value;
  config_follow_variables();
}
GC_word GC_get_free_space_divisor(void) { return GC_free_space_divisor; }

void GC_set_no_dls(int value) {
  GC_no_dls = value;
  config_follow_variables();
}
int GC_get_no_dls(void) { return GC_no_dls; }

void GC_set_disable_automatic_collection(int value) {
  config_automatic_off = value;
  config_follow_variables();
}
int GC_get_disable_automatic_collection(void) { return config_automatic_off; }

void GC_set_markers_count(unsigned count) {
  if (count == 0) return; /* midden's default stays */
  midden_set_markers(count);
  GC_parallel = (int)count - 1;
}
int GC_get_parallel(void) { return GC_parallel; }

/* libgc starts its marking threads here; midden's start when a collection needs them. */
void GC_start_mark_threads(void) {}

/* ---- getters and setters of what is only remembered, or read where it matters ---- */

void GC_set_find_leak(int value) { GC_find_leak = value; }
int GC_get_find_leak(void) { return GC_find_leak; }

void GC_set_all_interior_pointers(int value) { GC_all_interior_pointers = value; }
int GC_get_all_interior_pointers(void) { return GC_all_interior_pointers; }

void GC_set_finalize_on_demand(int value) { GC_finalize_on_demand = value; }
int GC_get_finalize_on_demand(void) { return GC_finalize_on_demand; }

void GC_set_java_finalization(int value) { GC_java_finalization = value; }
int GC_get_java_finalization(void) { return GC_java_finalization; }

void GC_set_finalizer_notifier(GC_finalizer_notifier_proc function) { GC_finalizer_notifier = function; }
GC_finalizer_notifier_proc GC_get_finalizer_notifier(void) { return GC_finalizer_notifier; }

void GC_set_on_heap_resize(GC_on_heap_resize_proc function) { GC_on_heap_resize = function; }
GC_on_heap_resize_proc GC_get_on_heap_resize(void) { return GC_on_heap_resize; }

void GC_set_dont_expand(int value) { GC_dont_expand = value; }
int GC_get_dont_expand(void) { return GC_dont_expand; }

void GC_set_full_freq(int value) { GC_full_freq = value; }
int GC_get_full_freq(void) { return GC_full_freq; }

void GC_set_non_gc_bytes(GC_word value) { GC_non_gc_bytes = value; }
GC_word GC_get_non_gc_bytes(void) { return GC_non_gc_bytes; }

void GC_set_max_retries(GC_word value) { GC_max_retries = value; }
GC_word GC_get_max_retries(void) { return GC_max_retries; }

void GC_set_dont_precollect(int value) { GC_dont_precollect = value; }
int GC_get_dont_precollect(void) { return GC_dont_precollect; }

void GC_set_time_limit(unsigned long milliseconds) { GC_time_limit = milliseconds; }
unsigned long GC_get_time_limit(void) { return GC_time_limit; }

void GC_set_time_limit_tv(struct GC_timeval_s limit) {
  GC_time_limit = limit.tv_ms;
  config_time_limit_ns = (int)limit.tv_nsec;
}
struct GC_timeval_s GC_get_time_limit_tv(void) {
  return (struct GC_timeval_s){.tv_ms = GC_time_limit, .tv_nsec = (unsigned long)config_time_limit_ns};
}

void GC_set_allocd_bytes_per_finalizer(GC_word value) { config_bytes_per_finalizer = value; }
GC_word GC_get_allocd_bytes_per_finalizer(void) { return config_bytes_per_finalizer; }

/* The heap is never executable. */
void GC_set_pages_executable(int value) { (void)value; }
int GC_get_pages_executable(void) { return 0; }

void GC_set_min_bytes_allocd(size_t value) { config_min_bytes = value; }
size_t GC_get_min_bytes_allocd(void) { return config_min_bytes; }

void GC_set_rate(int value) { config_rate = value; }
int GC_get_rate(void) { return config_rate; }

void GC_set_max_prior_attempts(int value) { config_max_prior_attempts = value; }
int GC_get_max_prior_attempts(void) { return config_max_prior_attempts; }

void GC_set_manual_vdb_allowed(int value) { config_manual_vdb = value; }
int GC_get_manual_vdb_allowed(void) { return config_manual_vdb; }

void GC_set_force_unmap_on_gcollect(int value) { config_force_unmap = value; }
int GC_get_force_unmap_on_gcollect(void) { return config_force_unmap; }

void GC_set_thr_restart_signal(int signal) { config_restart_signal = signal; }
int GC_get_thr_restart_signal(void) { return config_restart_signal ? config_restart_signal : SIGXCPU; }

/* Never called: midden sees by itself when a thread runs on no stack of its own, and reads all of that then. */
void GC_set_sp_corrector(GC_sp_corrector_proc function) { config_sp_corrector = function; }
GC_sp_corrector_proc GC_get_sp_corrector(void) { return config_sp_corrector; }

/* Called by collect_on_event. */
void GC_set_on_thread_event(GC_on_thread_event_proc function) { config_on_thread_event = function; }
GC_on_thread_event_proc GC_get_on_thread_event(void) { return config_on_thread_event; }
