/* Linux with the GNU C library: loaded objects, their static data and their thread-local storage.
 *
 * Objects and their writable segments come from dl_iterate_phdr, which holds the loader's lock around its callbacks and
 * walks the namespace of the caller: objects that dlmopen put elsewhere are not seen.
 *
 * Thread-local storage has no interface for other threads than the caller, so this reads what the C library keeps for
 * debuggers.  The thread pointer leads to the control block (struct pthread) and to the "dtv", an array indexed by
 * module number that holds the address of each block that the thread has touched.  Sizes and offsets come from the
 * symbols that libc exports for libthread_db (_thread_db_...), so they are right for the library that is running; what
 * lacks there falls back to less exact rules.
 *
 * Everything after init reads memory only: no lock, no allocation, no thread-local variable of its own. */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "os/os.h"
#include "os/os_linux.h"

/* ---- thread-local storage: what the C library exports for debuggers ---- */

/* Describes one field of a structure of the C library. */
struct field {
  uint32_t bits;   /* of one element */
  uint32_t count;  /* elements; a field that is an array may also count as one */
  uint32_t offset; /* in bytes, from the start of the structure */
};

/* Constant after init. */
static struct {
  size_t control_block_bytes;     /* sizeof(struct pthread) */
  size_t specific_offset;         /* struct pthread: pointers to the arrays of pthread_setspecific values */
  size_t specific_array_count;    /* number of those pointers */
  size_t specific_array_bytes;    /* size of one such array */
  const char *slots;              /* address of the head of the module table, or NULL where unknown */
  struct field module_tls_offset; /* link_map: distance of a static block from the thread pointer */
} glibc;

/* The module table: a list of arrays, indexed by module number through all of them. */
struct module_slot {
  size_t generation;    /* atomic; a dtv of a lesser generation does not know this module */
  const char *link_map; /* atomic */
};

struct module_slots {
  size_t count;
  const struct module_slots *next;
  struct module_slot slot[];
};

/* One entry of a dtv.  Entry 0 holds the dtv's generation and entry -1 its length. */
struct dtv_entry {
  uintptr_t value; /* the address of the block, or 0 or -1 where the thread has none */
  void *allocation;
};

enum symbol {
  LOADER_GLOBALS,
  SLOT_LIST,
  SLOT_LIST_COUNT,
  SLOT_LIST_NEXT,
  SLOT_LIST_SLOTS,
  SLOT_BYTES,
  SLOT_GENERATION,
  SLOT_LINK_MAP,
  LINK_MAP_TLS_OFFSET,
  CONTROL_BLOCK_BYTES,
  CONTROL_BLOCK_SPECIFIC,
  SPECIFIC_ARRAY_BYTES,
  SYMBOLS
};

static const char *const symbol_names[SYMBOLS] = {
    [LOADER_GLOBALS] = "_rtld_global",
    [SLOT_LIST] = "_thread_db_rtld_global__dl_tls_dtv_slotinfo_list",
    [SLOT_LIST_COUNT] = "_thread_db_dtv_slotinfo_list_len",
    [SLOT_LIST_NEXT] = "_thread_db_dtv_slotinfo_list_next",
    [SLOT_LIST_SLOTS] = "_thread_db_dtv_slotinfo_list_slotinfo",
    [SLOT_BYTES] = "_thread_db_sizeof_dtv_slotinfo",
    [SLOT_GENERATION] = "_thread_db_dtv_slotinfo_gen",
    [SLOT_LINK_MAP] = "_thread_db_dtv_slotinfo_map",
    [LINK_MAP_TLS_OFFSET] = "_thread_db_link_map_l_tls_offset",
    [CONTROL_BLOCK_BYTES] = "_thread_db_sizeof_pthread",
    [CONTROL_BLOCK_SPECIFIC] = "_thread_db_pthread_specific",
    [SPECIFIC_ARRAY_BYTES] = "_thread_db_sizeof_pthread_key_data_level2",
};

/* Their addresses, or NULL.  Atomic: whoever asks is answered the same. */
static const void *symbols[SYMBOLS];
static bool has_asked; /* atomic */

void os_ask_loader(void) {
  if (atomic_load_acquire(&has_asked)) return;
  for (unsigned i = 0; i < SYMBOLS; i++)
    atomic_store_relaxed(&symbols[i], (const void *)dlsym(RTLD_DEFAULT, symbol_names[i]));
  atomic_store_release(&has_asked, true);
}

static bool find_field(enum symbol symbol, struct field *field) {
  const struct field *found = atomic_load_relaxed(&symbols[symbol]);
  if (found != NULL) *field = *found;
  return found != NULL;
}

static size_t find_size(enum symbol symbol, size_t otherwise) {
  const uint32_t *found = atomic_load_relaxed(&symbols[symbol]);
  return found != NULL ? *found : otherwise;
}

/* The table is used only if its layout is the one that struct module_slots spells out. */
static bool module_table_is_as_declared(void) {
  struct field count;
  struct field next;
  struct field first;
  struct field generation;
  struct field link_map;
  return find_field(SLOT_LIST_COUNT, &count) && count.offset == 0 && find_field(SLOT_LIST_NEXT, &next) &&
         next.offset == sizeof(size_t) && find_field(SLOT_LIST_SLOTS, &first) && first.offset == 2 * sizeof(size_t) &&
         find_field(SLOT_GENERATION, &generation) && generation.offset == 0 && find_field(SLOT_LINK_MAP, &link_map) &&
         link_map.offset == sizeof(size_t) && find_size(SLOT_BYTES, 0) == 2 * sizeof(size_t);
}

void os_linux_init_thread_storage(void) {
  os_ask_loader();
  enum { USUAL_CONTROL_BLOCK_BYTES = 2304 };
  glibc.control_block_bytes = find_size(CONTROL_BLOCK_BYTES, USUAL_CONTROL_BLOCK_BYTES);
  glibc.specific_array_bytes = find_size(SPECIFIC_ARRAY_BYTES, 0);
  struct field specific;
  if (find_field(CONTROL_BLOCK_SPECIFIC, &specific)) {
    glibc.specific_offset = specific.offset;
    glibc.specific_array_count = (size_t)specific.bits * specific.count / (8 * sizeof(void *));
  }

  struct field head;
  const char *loader = atomic_load_relaxed(&symbols[LOADER_GLOBALS]);
  bool known = loader != NULL && find_field(SLOT_LIST, &head) &&
               find_field(LINK_MAP_TLS_OFFSET, &glibc.module_tls_offset) && module_table_is_as_declared();
  glibc.slots = known ? loader + head.offset : NULL;
}

/* NULL where the table is unknown, or has no such place. */
static NO_SANITIZE const struct module_slot *find_slot(size_t module) {
  if (glibc.slots == NULL) return NULL;
  const struct module_slots *slots = *(const struct module_slots *const *)(const void *)glibc.slots;
  size_t index = module;
  while (slots != NULL && index >= slots->count) {
    index -= slots->count;
    slots = slots->next;
  }
  return slots == NULL ? NULL : &slots->slot[index];
}

static NO_SANITIZE struct os_tls_module learn_tls(size_t module, size_t bytes) {
  const struct module_slot *slot = find_slot(module);
  struct os_tls_module tls = {.module = module, .bytes = bytes};
  if (slot != NULL) tls.object = atomic_load_acquire(&slot->link_map);
  if (tls.object != NULL)
    tls.generation = atomic_load_relaxed(&slot->generation); /* else it is of one that was closed */
  return tls;
}

/* ---- loaded objects ---- */

static struct os_range segment_range(const struct dl_phdr_info *info, const ElfW(Phdr) * segment) {
  uintptr_t start = info->dlpi_addr + segment->p_vaddr;
  return (struct os_range){start, start + segment->p_memsz};
}

/* What the loader protects after relocation.  It rounds both ends down, so a last partial page stays writable. */
static struct os_range relocation_range(const struct dl_phdr_info *info) {
  for (size_t i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_GNU_RELRO) continue;
    struct os_range range = segment_range(info, &info->dlpi_phdr[i]);
    return (struct os_range){round_down(range.start, os_page_bytes()), round_down(range.end, os_page_bytes())};
  }
  return (struct os_range){0, 0};
}

static bool holds_code_address(const struct dl_phdr_info *info, uintptr_t address) {
  for (size_t i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
    struct os_range range = segment_range(info, &info->dlpi_phdr[i]);
    if (address >= range.start && address < range.end) return true;
  }
  return false;
}

/* One object on its way to the visitor. */
struct module_visit {
  struct os_module module;
  void (*visit)(void *argument, const struct os_module *module);
  void *argument;
};

/* An object with more ranges than fit, which no linker makes by itself, is visited once more with the rest. */
static void add_range(struct module_visit *visit, uintptr_t start, uintptr_t end) {
  struct os_module *module = &visit->module;
  if (start >= end) return;
  if (module->data_count == OS_MODULE_RANGES) {
    visit->visit(visit->argument, module);
    module->data_count = 0;
    module->tls = (struct os_tls_module){0};
  }
  module->data[module->data_count++] = (struct os_range){start, end};
}

void os_linux_visit_module(const struct dl_phdr_info *info, uintptr_t own_address,
                           void (*visit)(void *argument, const struct os_module *module), void *argument) {
  struct module_visit state = {.visit = visit, .argument = argument};
  state.module.name = info->dlpi_name != NULL ? info->dlpi_name : "";
  state.module.is_self = holds_code_address(info, own_address);
  for (size_t i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
    state.module.tls = learn_tls(info->dlpi_tls_modid, info->dlpi_phdr[i].p_memsz);
  }
  struct os_range constant = relocation_range(info);
  for (size_t i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_W)) continue;
    struct os_range range = segment_range(info, segment);
    if (constant.start >= range.end || constant.end <= range.start) {
      add_range(&state, range.start, range.end);
    } else {
      add_range(&state, range.start, constant.start);
      add_range(&state, constant.end, range.end);
    }
  }
  visit(argument, &state.module);
}

struct walk {
  bool (*begin)(void *argument, uint64_t generation);
  void (*visit)(void *argument, const struct os_module *module);
  void *argument;
  bool begun;
};

/* `begin` runs in the first callback, since that is where the loader's lock is known to be held.  Loads and unloads are
 * counted apart and never fall, so their sum names the set of objects. */
static int walk_object(struct dl_phdr_info *info, size_t size, void *opaque) {
  (void)size;
  struct walk *walk = opaque;
  if (!walk->begun) {
    walk->begun = true;
    if (!walk->begin(walk->argument, (uint64_t)info->dlpi_adds + info->dlpi_subs)) return 1;
  }
  os_linux_visit_module(info, (uintptr_t)os_visit_modules, walk->visit, walk->argument);
  return 0;
}

void os_visit_modules(bool (*begin)(void *argument, uint64_t generation),
                      void (*visit)(void *argument, const struct os_module *module), void *argument) {
  struct walk walk = {.begin = begin, .visit = visit, .argument = argument};
  dl_iterate_phdr(walk_object, &walk);
}

/* ---- thread-local storage: the visit ---- */

static struct os_range control_block(uintptr_t thread_pointer) {
#if defined(__x86_64__)
  return (struct os_range){thread_pointer, thread_pointer + glibc.control_block_bytes};
#elif defined(__aarch64__)
  /* The block ends where the thread pointer points; the pointer to the dtv comes after. */
  return (struct os_range){thread_pointer - glibc.control_block_bytes, thread_pointer};
#else
#error "os_linux_modules.c knows the thread storage of x86-64 and aarch64 only"
#endif
}

static NO_SANITIZE const struct dtv_entry *dtv_of(uintptr_t thread_pointer) {
#if defined(__x86_64__)
  return *(const struct dtv_entry *const *)(thread_pointer + sizeof(void *));
#else
  return *(const struct dtv_entry *const *)thread_pointer;
#endif
}

/* The address of a block at a fixed distance from every thread pointer. */
static uintptr_t static_block(uintptr_t thread_pointer, size_t offset) {
#if defined(__x86_64__)
  return thread_pointer - offset;
#else
  return thread_pointer + offset;
#endif
}

/* The first values of pthread_setspecific lie in the control block itself; the others in arrays that it points to. */
static NO_SANITIZE void visit_specific_arrays(struct os_range block,
                                              void (*visit)(void *argument, struct os_range range), void *argument) {
  if (glibc.specific_array_bytes == 0) return;
  const uintptr_t *arrays = (const uintptr_t *)(block.start + glibc.specific_offset);
  for (size_t i = 0; i < glibc.specific_array_count; i++) {
    bool outside = arrays[i] < block.start || arrays[i] >= block.end;
    if (arrays[i] != 0 && outside)
      visit(argument, (struct os_range){arrays[i], arrays[i] + glibc.specific_array_bytes});
  }
}

/* Module numbers are used again after dlclose, which takes the object out of its slot before it frees it, and dlopen counts
 * generations. */
static NO_SANITIZE bool is_same(const struct module_slot *slot, const struct os_tls_module *module) {
  const char *object = atomic_load_acquire(&slot->link_map);
  if (object == NULL || (module->object != NULL && object != module->object)) return false;
  return module->generation == 0 || atomic_load_relaxed(&slot->generation) == module->generation;
}

/* Where the blocks of a module lie, from every thread pointer; 0 where they do not all lie alike. */
static NO_SANITIZE size_t static_offset(const struct module_slot *slot) {
  const size_t not_static = SIZE_MAX; /* x86-64 and aarch64 agree on this and on 0 */
  const char *object = atomic_load_acquire(&slot->link_map);
  if (object == NULL) return 0;
  size_t offset = atomic_load_acquire((const size_t *)(const void *)(object + glibc.module_tls_offset.offset));
  return offset == not_static ? 0 : offset;
}

/* Finds the address of a thread's block of one module; 0: it has none.  False where the program runs, and the module is not what was
 * learned.  Then the loader's lock is not held: what is read of the object counts only if it was still there afterwards.  The
 * slots themselves are never freed.
 *
 * An entry of the dtv counts only if the dtv is as new as the module: a thread learns late of what was closed and opened, so the
 * entry may be of another, smaller module.  A block at a static offset exists in every thread, also where the dtv does not tell
 * because the code never asked for its address: libraries built with -ftls-model=initial-exec and opened by dlopen. */
static NO_SANITIZE bool find_block(uintptr_t thread_pointer, const struct os_tls_module *module, bool running,
                                   uintptr_t *block) {
  const struct module_slot *slot = find_slot(module->module);
  size_t generation = 0, offset = 0;
  *block = 0;
  if (slot != NULL) {
    generation = atomic_load_relaxed(&slot->generation);
    offset = static_offset(slot);
    if (running && !is_same(slot, module)) return false;
    if (atomic_load_relaxed(&slot->link_map) == NULL) return true; /* being opened, or closed */
  }
  if (offset != 0) {
    *block = static_block(thread_pointer, offset);
    return true;
  }
  const struct dtv_entry *dtv = dtv_of(thread_pointer);
  if (dtv == NULL || module->module > dtv[-1].value || dtv[0].value < generation) return true;
  uintptr_t address = dtv[module->module].value;
  if (address != UINTPTR_MAX) *block = address;
  return true;
}

bool os_visit_thread_storage(uintptr_t thread_pointer, const struct os_tls_module *modules, size_t count, bool running,
                             void (*visit)(void *argument, struct os_range range), void *argument) {
  struct os_range block = control_block(thread_pointer);
  visit(argument, block);
  visit_specific_arrays(block, visit, argument);
  bool as_learned = true;
  for (size_t i = 0; i < count; i++) {
    ASSERT(modules[i].module != 0);
    uintptr_t address;
    as_learned = find_block(thread_pointer, &modules[i], running, &address) && as_learned;
    if (address != 0) visit(argument, (struct os_range){address, address + modules[i].bytes});
  }
  return as_learned;
}
