/* Settings: variables and functions agree, values written before the start are kept, environment variables count. */
#include <sys/wait.h>
#include <unistd.h>

#include "gc_check.h"

#include "gc/gc_mark.h"

/* Both ways: by function and by variable. */
#define CHECK_SETTING(name, first, second) \
  do {                                     \
    GC_set_##name(first);                  \
    CHECK_EQUAL(GC_get_##name(), first);   \
    CHECK_EQUAL(GC_##name, first);         \
    GC_##name = second;                    \
    CHECK_EQUAL(GC_get_##name(), second);  \
  } while (0)

static void test_settings(void) {
  CHECK_SETTING(finalize_on_demand, 1, 0);
  CHECK_SETTING(java_finalization, 0, 1);
  CHECK_SETTING(dont_expand, 1, 0);
  CHECK_SETTING(full_freq, 5, 19);
  CHECK_SETTING(non_gc_bytes, 1000, 0);
  CHECK_SETTING(no_dls, 1, 0);
  CHECK_SETTING(free_space_divisor, 6, 3);
  CHECK_SETTING(max_retries, 2, 0);
  CHECK_SETTING(dont_precollect, 1, 0);
  CHECK_SETTING(time_limit, 50, GC_TIME_UNLIMITED);
}

static void test_functions(void) {
  struct GC_timeval_s limit = {7, 500};
  GC_set_time_limit_tv(limit);
  CHECK_EQUAL(GC_get_time_limit_tv().tv_ms, 7);
  CHECK_EQUAL(GC_get_time_limit_tv().tv_nsec, 500);
  CHECK_EQUAL(GC_time_limit, 7);
  GC_set_rate(20);
  CHECK_EQUAL(GC_get_rate(), 20);
  GC_set_max_prior_attempts(3);
  CHECK_EQUAL(GC_get_max_prior_attempts(), 3);
  GC_set_min_bytes_allocd(4096);
  CHECK_EQUAL(GC_get_min_bytes_allocd(), 4096);
  GC_set_allocd_bytes_per_finalizer(77);
  CHECK_EQUAL(GC_get_allocd_bytes_per_finalizer(), 77);
  GC_set_force_unmap_on_gcollect(1);
  CHECK_EQUAL(GC_get_force_unmap_on_gcollect(), 1);
  GC_set_force_unmap_on_gcollect(0);
  GC_set_disable_automatic_collection(1);
  CHECK_EQUAL(GC_get_disable_automatic_collection(), 1);
  GC_word number = GC_get_gc_no();
  for (int i = 0; i < 300000; i++) GC_malloc(100);
  CHECK_EQUAL(GC_get_gc_no(), number);
  GC_set_disable_automatic_collection(0);
  for (int i = 0; i < 20000000 && GC_get_gc_no() == number; i++) GC_malloc(100);
  CHECK(GC_get_gc_no() > number);
}

static void test_start(void) {
  CHECK_EQUAL(GC_get_version() >> 8, 8 << 8 | 2);
  CHECK_EQUAL(GC_is_init_called(), 0);
  CHECK_EQUAL(GC_all_interior_pointers, 1);
  CHECK_EQUAL(GC_free_space_divisor, 3);
  GC_set_all_interior_pointers(0);
  GC_all_interior_pointers = 0;
  GC_java_finalization = 1;
  GC_INIT();
  CHECK_EQUAL(GC_is_init_called(), 1);
  GC_INIT();
  CHECK_EQUAL(GC_get_all_interior_pointers(), 0);
  CHECK(GC_stackbottom > (char *)__builtin_frame_address(0));
  CHECK_EQUAL(GC_is_incremental_mode(), 0);
  GC_enable_incremental();
  const char *mode = getenv("MIDDEN_MODE");
  if (mode != NULL && strcmp(mode, "stw") == 0) CHECK_EQUAL(GC_is_incremental_mode(), 0);
  CHECK(GC_get_parallel() >= 0 && GC_get_parallel() == GC_parallel);
  GC_register_displacement(3);
  GC_allow_register_threads();
  GC_start_mark_threads();
}

/* An object is found by an address inside it, wherever that is held on the stack. */
static NOINLINE GC_word inner_address(void) {
  char *object = GC_malloc(400);
  strcpy(object, "inner");
  return (GC_word)object + 3;
}

static void test_displacement(void) {
  volatile GC_word inner = inner_address();
  check_clear_stack();
  GC_gcollect();
  for (int i = 0; i < 100; i++) memset(GC_malloc(400), 0xee, 400);
  CHECK(strcmp((char *)inner - 3, "inner") == 0);
}

/* ---- messages ---- */

static int warnings;

static void on_warning(char *format, GC_word argument) {
  (void)argument;
  warnings += format != NULL;
}

static void test_messages(void) {
  GC_warn_proc before = GC_get_warn_proc();
  CHECK(before != NULL);
  GC_set_warn_proc(on_warning);
  CHECK(GC_get_warn_proc() == on_warning);
  volatile size_t huge = ~(size_t)0 / 2;
  CHECK(GC_malloc(huge) == NULL);
  CHECK(warnings > 0);
  GC_set_warn_proc(before);
  GC_ignore_warn_proc((char *)(GC_word) "nothing", 0);
}

/* ---- printing ---- */

/* They are exported, and in no header. */
void GC_printf(const char *format, ...);
void GC_err_printf(const char *format, ...);
void GC_log_printf(const char *format, ...);

static void check_prints(void (*print)(const char *format, ...), int fd) {
  char text[64] = "";
  int ends[2], before = dup(fd);
  CHECK(pipe(ends) == 0 && dup2(ends[1], fd) == fd);
  print("%s, %d, %lx\n", "text", -7, 0xabcdefUL);
  CHECK(dup2(before, fd) == fd);
  close(before);
  close(ends[1]);
  CHECK(read(ends[0], text, sizeof(text) - 1) > 0);
  close(ends[0]);
  CHECK(strcmp(text, "text, -7, abcdef\n") == 0);
}

static void test_printing(void) {
  int log = dup(STDERR_FILENO);
  check_prints(GC_printf, STDOUT_FILENO);
  check_prints(GC_err_printf, STDERR_FILENO);
  GC_set_log_fd(log);
  check_prints(GC_log_printf, log);
  GC_set_log_fd(STDERR_FILENO);
  close(log);
}

/* ---- the end of the process ---- */

static void on_abort(const char *message) { _exit(message && *message ? 42 : 1); }

/* Its end for want of memory comes without a message. */
static void on_exit_without_message(const char *message) { _exit(message ? 1 : 43); }

static void test_abort_on_oom(void) {
  pid_t child = fork();
  if (child == 0) {
    GC_set_abort_func(on_exit_without_message);
    GC_abort_on_oom();
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 43);
}

static void test_abort(void) {
  GC_abort_func before = GC_get_abort_func();
  pid_t child = fork();
  if (child == 0) {
    void *in_no_object = NULL;
    GC_set_abort_func(on_abort);
    GC_register_disappearing_link(&in_no_object);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
  CHECK(GC_get_abort_func() == before);
}

/* ---- checks of pointer arithmetic ---- */

static int complaints;

static void complain(void *p) { complaints += p != NULL; }
static void complain_about_two(void *p, void *q) { complaints += p != q; }

static void test_pointer_checks(void) {
  char *object = GC_malloc(100), *other = GC_malloc(100);
  for (size_t offset = 10; offset <= 50; offset += 10) GC_register_displacement(offset); /* interior pointers are off */
  GC_same_obj_print_proc = complain_about_two;
  GC_is_visible_print_proc = complain;
  GC_is_valid_displacement_print_proc = complain;
  CHECK(GC_same_obj(object + 50, object) == object + 50);
  CHECK(GC_is_valid_displacement(object) == object);
  char *p = object;
  CHECK(GC_pre_incr((void **)&p, 10) == object + 10 && p == object + 10);
  CHECK(GC_post_incr((void **)&p, 10) == object + 10 && p == object + 20);
  CHECK_EQUAL(complaints, 0);
  GC_same_obj(other + 8, object);
  CHECK_EQUAL(complaints, 1);
  CHECK(GC_is_visible(object + 3) == object + 3);
  CHECK_EQUAL(complaints, 2);
}

/* ---- environment: in a program of its own ---- */

static int run_with(const char *self, const char *name, const char *value, const char *what) {
  pid_t child = fork();
  if (child == 0) {
    setenv(name, value, 1);
    execl(self, self, what, (char *)NULL);
    _exit(127);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int check_initial_heap(void) {
  GC_INIT();
  for (int i = 0; i < 200000; i++) GC_malloc(100); /* 20 MB at least: no reason to collect below 64 MB */
  return GC_get_gc_no() > 1;
}

/* Nothing is set that would keep it from collecting. */
static int check_collects(void) {
  GC_INIT();
  for (int i = 0; i < 20000000 && GC_get_gc_no() < 2; i++) GC_malloc(100);
  return GC_get_gc_no() < 2;
}

static int check_maximum_heap(void) {
  GC_INIT();
  GC_set_warn_proc(GC_ignore_warn_proc);
  void **list = NULL;
  for (int i = 0; i < 100; i++) {
    void **next = GC_malloc(1 << 20);
    if (!next) return 0;
    *next = list;
    list = next;
  }
  return list != NULL;
}

static int check_dont_gc(void) {
  GC_INIT();
  GC_gcollect();
  return !GC_is_disabled() || !GC_dont_gc;
}

/* Nor in a program that does not start the library by itself. */
static int check_never_collects(void) {
  for (int i = 0; i < 300000; i++) GC_malloc(100);
  return GC_get_gc_no() != 0;
}

static int check_divisor(void) {
  GC_INIT();
  return GC_get_free_space_divisor() != 7;
}

/* What the program sets before the library is started is overruled, what it sets later is not. */
static int check_overruled(void) {
  GC_set_free_space_divisor(5);
  GC_set_full_freq(5);
  GC_set_time_limit(5);
  GC_set_force_unmap_on_gcollect(1);
  GC_set_max_heap_size((GC_word)1 << 40);
  GC_set_markers_count(3);
  GC_INIT();
  GC_allow_register_threads();
  const char *number = getenv("GC_FREE_SPACE_DIVISOR");
  if (number && GC_get_free_space_divisor() != 7) return 1;
  if (!number && GC_get_free_space_divisor() != 5) return 2;
  if (getenv("GC_FULL_FREQUENCY") && GC_get_full_freq() != 7) return 3;
  if (getenv("GC_PAUSE_TIME_TARGET") && GC_get_time_limit() != 7) return 4;
  if (getenv("GC_FORCE_UNMAP_ON_GCOLLECT") && GC_get_force_unmap_on_gcollect() != 0) return 5;
  if (getenv("GC_MARKERS") && !getenv("MIDDEN_MARKERS") && GC_get_parallel() != 1) return 6;
  if (getenv("GC_MAXIMUM_HEAP_SIZE") && check_maximum_heap() != 0) return 7;
  GC_set_free_space_divisor(4);
  GC_INIT();
  return GC_get_free_space_divisor() != 4;
}

/* The library has been started by the first allocation. */
static int check_late(void) {
  CHECK(GC_malloc(10) != NULL);
  GC_set_free_space_divisor(4);
  GC_INIT();
  return GC_get_free_space_divisor() != 4;
}

/* The first setting that the library hears of. */
static int check_automatic(void) {
  GC_INIT();
  GC_set_disable_automatic_collection(1);
  GC_word number = GC_get_gc_no();
  for (int i = 0; i < 300000; i++) GC_malloc(100);
  return GC_get_gc_no() != number;
}

static int run_child(const char *what) {
  if (strcmp(what, "initial") == 0) return check_initial_heap();
  if (strcmp(what, "collects") == 0) return check_collects();
  if (strcmp(what, "maximum") == 0) return check_maximum_heap();
  if (strcmp(what, "dont_gc") == 0) return check_dont_gc();
  if (strcmp(what, "never_collects") == 0) return check_never_collects();
  if (strcmp(what, "divisor") == 0) return check_divisor();
  if (strcmp(what, "overruled") == 0) return check_overruled();
  if (strcmp(what, "late") == 0) return check_late();
  if (strcmp(what, "automatic") == 0) return check_automatic();
  return 2;
}

static void test_environment(const char *self) {
  CHECK_EQUAL(run_with(self, "GC_INITIAL_HEAP_SIZE", "64M", "initial"), 0);
  CHECK_EQUAL(run_with(self, "GC_INITIAL_HEAP_SIZE", "67108864", "initial"), 0);
  CHECK_EQUAL(run_with(self, "GC_MAXIMUM_HEAP_SIZE", "32m", "maximum"), 0);
  CHECK_EQUAL(run_with(self, "GC_DONT_GC", "1", "dont_gc"), 0);
  CHECK_EQUAL(run_with(self, "GC_DONT_GC", "1", "never_collects"), 0);
  CHECK_EQUAL(run_with(self, "GC_FREE_SPACE_DIVISOR", "7", "divisor"), 0);
  CHECK_EQUAL(run_with(self, "GC_FREE_SPACE_DIVISOR", "bad", "collects"), 0);
  CHECK_EQUAL(run_with(self, "GC_FREE_SPACE_DIVISOR", "7", "overruled"), 0);
  CHECK_EQUAL(run_with(self, "GC_FULL_FREQUENCY", "7", "overruled"), 0);
  CHECK_EQUAL(run_with(self, "GC_PAUSE_TIME_TARGET", "7", "overruled"), 0);
  CHECK_EQUAL(run_with(self, "GC_FORCE_UNMAP_ON_GCOLLECT", "0", "overruled"), 0);
  CHECK_EQUAL(run_with(self, "GC_MARKERS", "2", "overruled"), 0);
  CHECK_EQUAL(run_with(self, "GC_MAXIMUM_HEAP_SIZE", "32m", "overruled"), 0);
  CHECK_EQUAL(run_with(self, "GC_FREE_SPACE_DIVISOR", "7", "late"), 0);
  CHECK_EQUAL(run_with(self, "GC_NO_SUCH_VARIABLE", "1", "automatic"), 0);
}

/* The last thing that a program does. */
static void test_end(void) {
  CHECK(GC_is_init_called());
  GC_deinit();
  CHECK(!GC_is_init_called());
  GC_deinit();
}

int main(int count, char **arguments) {
  if (count > 1) return run_child(arguments[1]);
  test_start();
  test_settings();
  test_functions();
  test_displacement();
  test_messages();
  test_abort();
  test_abort_on_oom();
  test_pointer_checks();
  test_printing();
  test_environment("/proc/self/exe");
  test_end();
  return 0;
}
