/* Settings: what is set is what is told, by functions and by variables; and each is put back. */
#include "differential.h"

#include "gc/gc_gcj.h"
#include "gc/gc_mark.h"

/* ---- whole numbers ---- */

#define SETTING(type, name)                                             \
  static void set_##name(GC_word value) { GC_set_##name((type)value); } \
  static GC_word get_##name(void) { return (GC_word)GC_get_##name(); }

SETTING(int, find_leak)
SETTING(int, all_interior_pointers)
SETTING(int, finalize_on_demand)
SETTING(int, java_finalization)
SETTING(int, dont_expand)
SETTING(int, full_freq)
SETTING(GC_word, non_gc_bytes)
SETTING(int, no_dls)
SETTING(GC_word, free_space_divisor)
SETTING(GC_word, max_retries)
SETTING(int, dont_precollect)
SETTING(unsigned long, time_limit)
SETTING(GC_word, allocd_bytes_per_finalizer)
SETTING(size_t, min_bytes_allocd)
SETTING(int, rate)
SETTING(int, max_prior_attempts)
SETTING(int, disable_automatic_collection)
SETTING(int, manual_vdb_allowed)
SETTING(int, force_unmap_on_gcollect)

enum { ANY = 0, SWITCH = 1, READ_ONLY = 2 };

static const struct setting {
  const char *name;
  void (*set)(GC_word value);
  GC_word (*get)(void);
  int *variable;
  GC_word *word;
  int values;
  bool has_default; /* which every build has */
} settings[] = {
    {"find_leak", set_find_leak, get_find_leak, &GC_find_leak, NULL, READ_ONLY, true},
    {"all_interior_pointers", set_all_interior_pointers, get_all_interior_pointers, &GC_all_interior_pointers, NULL,
     READ_ONLY, true},
    {"finalize_on_demand", set_finalize_on_demand, get_finalize_on_demand, &GC_finalize_on_demand, NULL, SWITCH, true},
    {"java_finalization", set_java_finalization, get_java_finalization, &GC_java_finalization, NULL, SWITCH, true},
    {"dont_expand", set_dont_expand, get_dont_expand, &GC_dont_expand, NULL, SWITCH, true},
    {"full_freq", set_full_freq, get_full_freq, &GC_full_freq, NULL, ANY, true},
    {"non_gc_bytes", set_non_gc_bytes, get_non_gc_bytes, NULL, &GC_non_gc_bytes, ANY, false},
    {"no_dls", set_no_dls, get_no_dls, &GC_no_dls, NULL, SWITCH, true},
    {"free_space_divisor", set_free_space_divisor, get_free_space_divisor, NULL, &GC_free_space_divisor, ANY, true},
    {"max_retries", set_max_retries, get_max_retries, NULL, &GC_max_retries, ANY, true},
    {"dont_precollect", set_dont_precollect, get_dont_precollect, &GC_dont_precollect, NULL, SWITCH, true},
    {"time_limit", set_time_limit, get_time_limit, NULL, NULL, ANY, true},
    {"allocd_bytes_per_finalizer", set_allocd_bytes_per_finalizer, get_allocd_bytes_per_finalizer, NULL, NULL, ANY,
     true},
    {"min_bytes_allocd", set_min_bytes_allocd, get_min_bytes_allocd, NULL, NULL, ANY, true},
    {"rate", set_rate, get_rate, NULL, NULL, ANY, true},
    {"max_prior_attempts", set_max_prior_attempts, get_max_prior_attempts, NULL, NULL, ANY, true},
    {"disable_automatic_collection", set_disable_automatic_collection, get_disable_automatic_collection, NULL, NULL,
     SWITCH, true},
    {"manual_vdb_allowed", set_manual_vdb_allowed, get_manual_vdb_allowed, NULL, NULL, SWITCH, true},
    {"force_unmap_on_gcollect", set_force_unmap_on_gcollect, get_force_unmap_on_gcollect, NULL, NULL, SWITCH, true},
};

static GC_word by_variable(const struct setting *setting) {
  if (setting->variable) return (GC_word)*setting->variable;
  return setting->word ? *setting->word : setting->get();
}

static void set_variable(const struct setting *setting, GC_word value) {
  if (setting->variable)
    *setting->variable = (int)value;
  else if (setting->word)
    *setting->word = value;
  else
    setting->set(value);
}

static void change_number(void) {
  const struct setting *setting = &settings[any_below(sizeof settings / sizeof settings[0])];
  GC_word before = setting->get(), value = setting->values == SWITCH ? any_below(2) : 1 + any_below(100);
  if (setting->has_default && setting->variable != &GC_all_interior_pointers)
    say("%s is %lu", setting->name, (unsigned long)before);
  REQUIRE(by_variable(setting) == before);
  if (setting->values == READ_ONLY) return;
  setting->set(value);
  REQUIRE(setting->get() == value && by_variable(setting) == value);
  set_variable(setting, before);
  REQUIRE(setting->get() == before);
}

static void change_time_limit(void) {
  struct GC_timeval_s before = GC_get_time_limit_tv(), limit = {any_below(1000), any_below(1000000)};
  GC_set_time_limit_tv(limit);
  struct GC_timeval_s now = GC_get_time_limit_tv();
  REQUIRE(now.tv_ms == limit.tv_ms && now.tv_nsec == limit.tv_nsec && GC_time_limit == limit.tv_ms);
  GC_set_time_limit(limit.tv_ms + 1); /* leaves the other part */
  now = GC_get_time_limit_tv();
  say("time limit %lu %lu, before %lu %lu", now.tv_ms, now.tv_nsec, before.tv_ms, before.tv_nsec);
  GC_set_time_limit_tv(before);
}

/* ---- functions ---- */

static void on_resize(GC_word bytes) { (void)bytes; }
static void on_nothing(void) {}
static void on_event(GC_EventType event) { (void)event; }
static void on_thread(GC_EventType event, void *thread) { (void)event, (void)thread; }
static void on_abort(const char *message) { (void)message; }
static void on_warning(char *format, GC_word argument) { (void)format, (void)argument; }
static int never_stop(void) { return 0; }

#define ROUND_TRIP(type, name, value)                      \
  do {                                                     \
    type before = GC_get_##name();                         \
    say(#name " is %s", before != NULL ? "set" : "unset"); \
    GC_set_##name(value);                                  \
    REQUIRE(GC_get_##name() == (value));                   \
    GC_set_##name(before);                                 \
    REQUIRE(GC_get_##name() == before);                    \
  } while (0)

static void change_function(void) {
  switch (any_below(8)) {
    case 0:
      ROUND_TRIP(GC_on_heap_resize_proc, on_heap_resize, on_resize);
      break;
    case 1:
      ROUND_TRIP(GC_finalizer_notifier_proc, finalizer_notifier, on_nothing);
      break;
    case 2:
      ROUND_TRIP(GC_on_collection_event_proc, on_collection_event, on_event);
      break;
    case 3:
      ROUND_TRIP(GC_start_callback_proc, start_callback, on_nothing);
      break;
    case 4:
      ROUND_TRIP(GC_stop_func, stop_func, never_stop);
      break;
    case 5:
      ROUND_TRIP(GC_abort_func, abort_func, on_abort);
      break;
    case 6:
      ROUND_TRIP(GC_warn_proc, warn_proc, on_warning);
      break;
    default:
      ROUND_TRIP(GC_on_thread_event_proc, on_thread_event, on_thread);
  }
}

/* ---- what cannot be set any more ---- */

static void ask_start(void) {
  say("version %d.%d, init %d, disabled %d, gcj %d", GC_get_version() >> 16 & 255, GC_get_version() >> 8 & 255,
      GC_is_init_called(), GC_is_disabled(),
      GC_gcj_kind > 3 && GC_gcj_debug_kind > 3 && GC_gcj_kind != GC_gcj_debug_kind);
  REQUIRE(GC_get_parallel() == GC_parallel && GC_parallel >= 0);
  REQUIRE(GC_get_suspend_signal() > 0 && GC_get_thr_restart_signal() > 0);
  int suspend = GC_get_suspend_signal(), restart = GC_get_thr_restart_signal();
  REQUIRE(suspend != restart);
  GC_register_displacement(any_below(100));
  GC_debug_register_displacement(any_below(100));
  GC_register_describe_type_fn(GC_gcj_kind, NULL);
  GC_start_mark_threads();
  GC_init();
}

void settings_step(void) {
  if (any_chance(60))
    change_number();
  else if (any_chance(60))
    change_function();
  else if (any_chance(50))
    change_time_limit();
  else
    ask_start();
}
