/* os: loaded objects, their static data and their thread-local storage, with this program, the C library and two
 * libraries that the test opens; and program headers that were made up, for what no library at hand shows. */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/wait.h"
#include "os/os.h"
#include "os/os_linux.h"

#if !defined(DL_OS_DYNAMIC_PATH) || !defined(DL_OS_INITIAL_EXEC_PATH)
#error "the build defines the paths of the libraries made of dl_os_dynamic.c and dl_os_initial_exec.c"
#endif

typedef void **slot_function(void);

static void await(uint32_t *word, uint32_t value) {
  for (uint32_t seen; (seen = atomic_load_acquire(word)) != value;) wait_on_word(word, seen);
}

static void announce(uint32_t *word, uint32_t value) {
  atomic_store_release(word, value);
  wake_all(word);
}

static slot_function *find_slot_function(void *library, const char *name) {
  union {
    void *object;
    slot_function *function;
  } symbol = {.object = dlsym(library, name)};
  assert_non_null(symbol.object);
  return symbol.function;
}

/* ---- what a visit reports ---- */

enum { MAX_MODULES = 128, MAX_RANGES = 512 };

static struct {
  uint64_t generation;
  unsigned begins;
  struct os_module modules[MAX_MODULES];
  char names[MAX_MODULES][256];
  size_t count;
} visited;

static bool begin(void *argument, uint64_t generation) {
  (void)argument;
  visited.generation = generation;
  visited.begins++;
  return true;
}

static bool begin_but_stop(void *argument, uint64_t generation) {
  begin(argument, generation);
  return false;
}

static void keep_module(void *argument, const struct os_module *module) {
  (void)argument;
  if (visited.count == MAX_MODULES) abort();
  strncpy(visited.names[visited.count], module->name, sizeof visited.names[0] - 1);
  visited.modules[visited.count] = *module;
  visited.modules[visited.count].name = visited.names[visited.count];
  visited.count++;
}

static void visit_all(void) {
  memset(&visited, 0, sizeof visited);
  os_visit_modules(begin, keep_module, NULL);
  assert_int_equal(visited.begins, 1);
}

/* The module whose data holds `address`, or NULL. */
static const struct os_module *owner_of(const void *address) {
  for (size_t i = 0; i < visited.count; i++) {
    for (size_t j = 0; j < visited.modules[i].data_count; j++) {
      struct os_range range = visited.modules[i].data[j];
      if ((uintptr_t)address >= range.start && (uintptr_t)address < range.end) return &visited.modules[i];
    }
  }
  return NULL;
}

static const struct os_module *module_of_path(const char *path) {
  for (size_t i = 0; i < visited.count; i++) {
    if (strcmp(visited.modules[i].name, path) == 0) return &visited.modules[i];
  }
  return NULL;
}

/* ---- loaded objects ---- */

static int initialized_data = 1;
static int zero_data[5000];
static const char *const relocated_constants[] = {"relocated", "then", "protected"};

static void test_own_data(void **state) {
  (void)state;
  visit_all();
  const struct os_module *self = owner_of(&initialized_data);
  assert_non_null(self);
  assert_string_equal(self->name, "");
  assert_true(self->is_self);
  assert_ptr_equal(owner_of(&zero_data[0]), self);
  assert_ptr_equal(owner_of(&zero_data[4999]), self);
  size_t selves = 0;
  for (size_t i = 0; i < visited.count; i++) selves += visited.modules[i].is_self;
  assert_int_equal(selves, 1);
}

static void test_constants_and_heap_are_not_data(void **state) {
  (void)state;
  visit_all();
  void *heap = malloc(100000);
  int local = 0;
  assert_null(owner_of(heap));
  assert_null(owner_of(&local));
  assert_null(owner_of(relocated_constants[0]));
  assert_null(owner_of(&relocated_constants[0])); /* protected after relocation */
  assert_null(owner_of((const void *)(uintptr_t)&test_own_data));
  free(heap);
}

static void test_library_data(void **state) {
  (void)state;
  visit_all();
  const struct os_module *libc = owner_of(stdout); /* a structure in the C library's own data */
  assert_non_null(libc);
  assert_non_null(strstr(libc->name, "libc"));
  assert_false(libc->is_self);
}

/* The bare system call: sanitizers know better which bytes between two variables are nobody's. */
static long write_raw(int file, uintptr_t address) { return syscall(SYS_write, file, address, 1); }

/* Each reported byte must be there to read. */
static void test_all_data_is_mapped(void **state) {
  (void)state;
  visit_all();
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  for (size_t i = 0; i < visited.count; i++) {
    for (size_t j = 0; j < visited.modules[i].data_count; j++) {
      struct os_range range = visited.modules[i].data[j];
      assert_true(range.start < range.end);
      for (uintptr_t at = range.start; at < range.end; at += 4096) {
        char byte;
        assert_int_equal(write_raw(ends[1], at), 1);
        assert_int_equal(read(ends[0], &byte, 1), 1);
      }
      assert_int_equal(write_raw(ends[1], range.end - 1), 1);
      char byte;
      assert_int_equal(read(ends[0], &byte, 1), 1);
    }
  }
  close(ends[0]);
  close(ends[1]);
}

static void test_generation_follows_loads(void **state) {
  (void)state;
  visit_all();
  uint64_t first = visited.generation;
  visit_all();
  assert_int_equal(visited.generation, first);

  void *library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  assert_non_null(library);
  void **slot = find_slot_function(library, "dl_os_static_slot")();
  visit_all();
  uint64_t second = visited.generation;
  assert_true(second != first);
  const struct os_module *module = owner_of(slot);
  assert_non_null(module);
  assert_string_equal(module->name, DL_OS_DYNAMIC_PATH);
  assert_false(module->is_self);

  dlclose(library);
  visit_all();
  assert_true(visited.generation != first && visited.generation != second);
  assert_null(module_of_path(DL_OS_DYNAMIC_PATH));
}

static void test_begin_can_stop_the_visit(void **state) {
  (void)state;
  memset(&visited, 0, sizeof visited);
  os_visit_modules(begin_but_stop, keep_module, NULL);
  assert_int_equal(visited.begins, 1);
  assert_int_equal(visited.count, 0);
}

static uint32_t loader_entered; /* atomic */
static uint32_t loader_left;    /* atomic */
static bool left_during_visit;

static int ignore_object(struct dl_phdr_info *info, size_t size, void *argument) {
  (void)info;
  (void)size;
  (void)argument;
  return 0;
}

static void *enter_loader(void *argument) {
  announce(&loader_entered, 1);
  dl_iterate_phdr(ignore_object, NULL);
  announce(&loader_left, 1);
  return argument;
}

static bool begin_with_rival(void *argument, uint64_t generation) {
  (void)generation;
  if (pthread_create(argument, NULL, enter_loader, NULL) != 0) abort();
  await(&loader_entered, 1);
  usleep(20000); /* time enough to get through, were the lock free */
  left_during_visit = atomic_load_acquire(&loader_left);
  return false;
}

static void test_loader_is_locked_from_begin_on(void **state) {
  (void)state;
  pthread_t thread;
  os_visit_modules(begin_with_rival, keep_module, &thread);
  pthread_join(thread, NULL);
  assert_false(left_during_visit);
  assert_int_equal(atomic_load_acquire(&loader_left), 1);
}

/* ---- made-up program headers ---- */

static void visit_headers(const ElfW(Phdr) * headers, size_t count, uintptr_t base, uintptr_t own_address) {
  struct dl_phdr_info info = {.dlpi_addr = base,
                              .dlpi_name = "made-up",
                              .dlpi_phdr = headers,
                              .dlpi_phnum = (ElfW(Half))count,
                              .dlpi_tls_modid = 5};
  memset(&visited, 0, sizeof visited);
  os_linux_visit_module(&info, own_address, keep_module, NULL);
}

static void assert_ranges(const struct os_module *module, const struct os_range *expected, size_t count) {
  assert_int_equal(module->data_count, count);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(module->data[i].start, expected[i].start);
    assert_int_equal(module->data[i].end, expected[i].end);
  }
}

static ElfW(Phdr) segment(unsigned type, unsigned flags, uintptr_t address, size_t file_bytes, size_t memory_bytes) {
  return (ElfW(Phdr)){
      .p_type = type, .p_flags = flags, .p_vaddr = address, .p_filesz = file_bytes, .p_memsz = memory_bytes};
}

static void test_protected_part_is_cut_out(void **state) {
  (void)state;
  const uintptr_t base = 0x10000000;
  const uintptr_t page = os_page_bytes();
  const struct {
    uintptr_t start; /* of the protected part, from `base` */
    uintptr_t end;
    struct os_range left[2];
    size_t left_count;
  } cases[] = {
      /* The segment is 2.5 to 8.25 pages, of which the file gives only the first 4. */
      {0, 0, {{5 * page / 2, 33 * page / 4}}, 1},
      {5 * page / 2, 4 * page, {{4 * page, 33 * page / 4}}, 1},
      {5 * page / 2, 9 * page / 2, {{4 * page, 33 * page / 4}}, 1}, /* the page that is cut stays writable */
      {4 * page, 6 * page, {{5 * page / 2, 4 * page}, {6 * page, 33 * page / 4}}, 2},
      {2 * page, 9 * page, {{0, 0}}, 0},
      {20 * page, 30 * page, {{5 * page / 2, 33 * page / 4}}, 1},
  };
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    const ElfW(Phdr) headers[] = {
        segment(PT_LOAD, PF_R | PF_X, 0, 2 * page, 2 * page),
        segment(PT_LOAD, PF_R | PF_W, 5 * page / 2, 4 * page, 23 * page / 4),
        segment(PT_GNU_RELRO, PF_R, cases[i].start, 0, cases[i].end - cases[i].start),
    };
    visit_headers(headers, cases[i].end == 0 ? 2 : 3, base, base + page);
    assert_int_equal(visited.count, 1);
    assert_true(visited.modules[0].is_self);
    assert_int_equal(visited.modules[0].tls.module, 0);
    struct os_range expected[2];
    for (size_t j = 0; j < 2; j++) {
      expected[j] = (struct os_range){base + cases[i].left[j].start, base + cases[i].left[j].end};
    }
    assert_ranges(&visited.modules[0], expected, cases[i].left_count);
  }
}

static void test_own_code_and_thread_storage(void **state) {
  (void)state;
  const uintptr_t base = 0x10000000;
  const ElfW(Phdr) headers[] = {
      segment(PT_LOAD, PF_R | PF_X, 0, 0x2000, 0x2000),
      segment(PT_TLS, PF_R, 0x1000, 8, 0x123),
  };
  const struct {
    uintptr_t address;
    bool is_self;
  } cases[] = {{base - 1, false}, {base, true}, {base + 0x1fff, true}, {base + 0x2000, false}};
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    visit_headers(headers, COUNT_OF(headers), base, cases[i].address);
    assert_int_equal(visited.modules[0].is_self, cases[i].is_self);
    assert_int_equal(visited.modules[0].data_count, 0);
    assert_int_equal(visited.modules[0].tls.module, 5);
    assert_int_equal(visited.modules[0].tls.bytes, 0x123);
  }
}

static void test_no_range_is_lost_where_there_are_many(void **state) {
  (void)state;
  enum { SEGMENTS = 2 * OS_MODULE_RANGES + 3 };
  ElfW(Phdr) headers[SEGMENTS + 1];
  headers[0] = segment(PT_TLS, PF_R, 0, 8, 8);
  for (size_t i = 0; i < SEGMENTS; i++) headers[i + 1] = segment(PT_LOAD, PF_R | PF_W, i * 0x10000, 0x1000, 0x1000);
  visit_headers(headers, SEGMENTS + 1, 0x10000000, 0);
  assert_int_equal(visited.count, 3);
  for (size_t i = 0; i < SEGMENTS; i++) assert_non_null(owner_of((void *)(0x10000000 + i * 0x10000)));
  assert_int_equal(visited.modules[0].tls.module, 5);
  assert_int_equal(visited.modules[1].tls.module, 0); /* or it would be scanned twice */
  assert_int_equal(visited.modules[2].tls.module, 0);
}

/* ---- thread-local storage ---- */

static _Thread_local void *own_thread_slot;

/* What os_visit_thread_storage reported. */
static struct {
  struct os_range ranges[MAX_RANGES];
  size_t count;
} storage;

static void keep_range(void *argument, struct os_range range) {
  (void)argument;
  if (storage.count == MAX_RANGES) abort();
  storage.ranges[storage.count++] = range;
}

/* By what was visited last of the modules. */
static void visit_storage_as_known(uintptr_t thread_pointer) {
  struct os_tls_module modules[MAX_MODULES];
  size_t count = 0;
  for (size_t i = 0; i < visited.count; i++) {
    const struct os_module *module = &visited.modules[i];
    if (module->tls.module == 0) continue;
    modules[count++] = module->tls;
  }
  storage.count = 0;
  os_visit_thread_storage(thread_pointer, modules, count, true, keep_range, NULL);
}

static void visit_storage(uintptr_t thread_pointer) {
  visit_all();
  visit_storage_as_known(thread_pointer);
}

static bool storage_has_range_of(size_t bytes) {
  for (size_t i = 0; i < storage.count; i++) {
    if (storage.ranges[i].end - storage.ranges[i].start == bytes) return true;
  }
  return false;
}

static bool storage_covers(const void *address) {
  for (size_t i = 0; i < storage.count; i++) {
    struct os_range range = storage.ranges[i];
    if ((uintptr_t)address >= range.start && (uintptr_t)address + sizeof(void *) <= range.end) return true;
  }
  return false;
}

static NO_SANITIZE bool storage_holds(uintptr_t value) {
  for (size_t i = 0; i < storage.count; i++) {
    const uintptr_t *word = (const uintptr_t *)((storage.ranges[i].start + 7) & ~(uintptr_t)7);
    for (; (uintptr_t)(word + 1) <= storage.ranges[i].end; word++) {
      if (*word == value) return true;
    }
  }
  return false;
}

/* A thread that takes one step each time it is told to. */
struct stepper {
  void (*step)(struct stepper *stepper); /* NULL ends it */
  uint32_t turn;                         /* atomic; 1 while a step runs */
  uintptr_t thread_pointer;
  void **own_slot;
  slot_function *slot_function;
  void **library_slot;
  pthread_key_t *keys;
  pthread_t thread;
};

static void *run_steps(void *opaque) {
  struct stepper *stepper = opaque;
  stepper->thread_pointer = os_thread_pointer();
  stepper->own_slot = &own_thread_slot;
  for (;;) {
    announce(&stepper->turn, 0);
    await(&stepper->turn, 1);
    if (stepper->step == NULL) return NULL;
    stepper->step(stepper);
  }
}

static void take_step(struct stepper *stepper, void (*step)(struct stepper *stepper)) {
  stepper->step = step;
  announce(&stepper->turn, 1);
  if (step != NULL) await(&stepper->turn, 0);
}

static void start_stepper(struct stepper *stepper) {
  stepper->turn = 1;
  assert_int_equal(pthread_create(&stepper->thread, NULL, run_steps, stepper), 0);
  await(&stepper->turn, 0);
}

static void end_stepper(struct stepper *stepper) {
  take_step(stepper, NULL);
  pthread_join(stepper->thread, NULL);
}

static void ask_for_slot(struct stepper *stepper) { stepper->library_slot = stepper->slot_function(); }

static void test_thread_pointers_differ(void **state) {
  (void)state;
  struct stepper other = {0};
  start_stepper(&other);
  assert_true(os_thread_pointer() == os_thread_pointer());
  assert_true(other.thread_pointer != os_thread_pointer());
  end_stepper(&other);
}

static void test_variables_of_the_program(void **state) {
  (void)state;
  struct stepper other = {0};
  start_stepper(&other);
  visit_storage(os_thread_pointer());
  assert_true(storage_covers(&own_thread_slot));
  assert_false(storage_covers(other.own_slot));
  visit_storage(other.thread_pointer);
  assert_true(storage_covers(other.own_slot));
  assert_false(storage_covers(&own_thread_slot));
  end_stepper(&other);
}

/* errno is the C library's own thread-local variable. */
static void test_variables_of_the_c_library(void **state) {
  (void)state;
  visit_storage(os_thread_pointer());
  assert_true(storage_covers((void *)((uintptr_t)&errno & ~(uintptr_t)7)));
}

static void test_variables_of_an_opened_library(void **state) {
  (void)state;
  struct stepper other = {0};
  start_stepper(&other); /* before the library is there: its block comes late */
  void *library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  assert_non_null(library);
  other.slot_function = find_slot_function(library, "dl_os_thread_slot");

  visit_storage(other.thread_pointer);
  size_t ranges_before = storage.count;
  take_step(&other, ask_for_slot);
  visit_storage(other.thread_pointer);
  assert_true(storage_covers(other.library_slot));
  assert_int_equal(storage.count, ranges_before + 1);

  void **own = other.slot_function();
  assert_false(storage_covers(own));
  *own = &initialized_data;
  visit_storage(os_thread_pointer());
  assert_true(storage_covers(own));
  assert_true(storage_holds((uintptr_t)&initialized_data));
  end_stepper(&other);
  dlclose(library);
}

/* The first thread's static block is no part of its stack, so nothing else would find these. */
static void test_variables_at_a_static_offset(void **state) {
  (void)state;
  struct stepper other = {0};
  start_stepper(&other);
  void *library = dlopen(DL_OS_INITIAL_EXEC_PATH, RTLD_NOW);
  assert_non_null(library);
  other.slot_function = find_slot_function(library, "dl_os_thread_slot");
  take_step(&other, ask_for_slot);
  visit_storage(other.thread_pointer);
  assert_true(storage_covers(other.library_slot));
  visit_storage(os_thread_pointer());
  assert_true(storage_covers(other.slot_function()));
  end_stepper(&other);
  dlclose(library);
}

/* A library that takes the number of another one, which is gone, has no block in a thread that knows only the other. */
static void test_stale_block_is_not_visited(void **state) {
  (void)state;
  struct stepper other = {0};
  start_stepper(&other);
  void *library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  assert_non_null(library);
  other.slot_function = find_slot_function(library, "dl_os_thread_slot");
  take_step(&other, ask_for_slot);
  visit_all();
  size_t number = module_of_path(DL_OS_DYNAMIC_PATH)->tls.module;
  dlclose(library);

  library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  assert_non_null(library);
  visit_storage(other.thread_pointer);
  assert_int_equal(module_of_path(DL_OS_DYNAMIC_PATH)->tls.module, number);
  assert_false(storage_covers(other.library_slot));
  other.slot_function = find_slot_function(library, "dl_os_thread_slot");
  take_step(&other, ask_for_slot);
  visit_storage(other.thread_pointer);
  assert_true(storage_covers(other.library_slot));
  end_stepper(&other);
  dlclose(library);
}

/* What is known of the modules is older than what is loaded: of the one that was closed nothing is visited, though a smaller one,
 * which has a block in every thread, has its number. */
static void test_module_closed_since_is_not_visited(void **state) {
  (void)state;
  struct stepper other = {0};
  start_stepper(&other);
  void *library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  other.slot_function = find_slot_function(library, "dl_os_thread_slot");
  take_step(&other, ask_for_slot);
  visit_storage(other.thread_pointer);
  struct os_tls_module closed = module_of_path(DL_OS_DYNAMIC_PATH)->tls;
  assert_true(storage_has_range_of(closed.bytes));
  dlclose(library);
  visit_storage_as_known(other.thread_pointer);
  assert_false(storage_has_range_of(closed.bytes));

  library = dlopen(DL_OS_INITIAL_EXEC_PATH, RTLD_NOW);
  visit_storage_as_known(other.thread_pointer);
  assert_false(storage_has_range_of(closed.bytes));
  visit_all();
  assert_int_equal(module_of_path(DL_OS_INITIAL_EXEC_PATH)->tls.module, closed.module);
  end_stepper(&other);
  dlclose(library);
}

enum { KEYS = 70 }; /* the control block has room for 32 */

static void set_keys(struct stepper *stepper) {
  for (uintptr_t i = 0; i < KEYS; i++) pthread_setspecific(stepper->keys[i], (void *)(0x7e57000000000000 + i));
}

static void test_values_of_keys(void **state) {
  (void)state;
  pthread_key_t keys[KEYS];
  for (size_t i = 0; i < KEYS; i++) assert_int_equal(pthread_key_create(&keys[i], NULL), 0);
  struct stepper other = {.keys = keys};
  start_stepper(&other);
  visit_storage(other.thread_pointer);
  assert_false(storage_holds(0x7e57000000000000));
  take_step(&other, set_keys);
  visit_storage(other.thread_pointer);
  for (uintptr_t i = 0; i < KEYS; i++) assert_true(storage_holds(0x7e57000000000000 + i));
  visit_storage(os_thread_pointer());
  assert_false(storage_holds(0x7e57000000000000 + KEYS - 1));
  set_keys(&other);
  visit_storage(os_thread_pointer());
  for (uintptr_t i = 0; i < KEYS; i++) assert_true(storage_holds(0x7e57000000000000 + i));
  end_stepper(&other);
  for (size_t i = 0; i < KEYS; i++) pthread_key_delete(keys[i]);
}

static int set_up(void **state) {
  (void)state;
  os_init();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_own_data),
      cmocka_unit_test(test_constants_and_heap_are_not_data),
      cmocka_unit_test(test_library_data),
      cmocka_unit_test(test_all_data_is_mapped),
      cmocka_unit_test(test_generation_follows_loads),
      cmocka_unit_test(test_begin_can_stop_the_visit),
      cmocka_unit_test(test_loader_is_locked_from_begin_on),
      cmocka_unit_test(test_protected_part_is_cut_out),
      cmocka_unit_test(test_own_code_and_thread_storage),
      cmocka_unit_test(test_no_range_is_lost_where_there_are_many),
      cmocka_unit_test(test_thread_pointers_differ),
      cmocka_unit_test(test_variables_of_the_program),
      cmocka_unit_test(test_variables_of_the_c_library),
      cmocka_unit_test(test_variables_of_an_opened_library),
      cmocka_unit_test(test_variables_at_a_static_offset),
      cmocka_unit_test(test_stale_block_is_not_visited),
      cmocka_unit_test(test_module_closed_since_is_not_visited),
      cmocka_unit_test(test_values_of_keys),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
