/* Writes src/span/size_class_table.h: the sizes of small objects and all that the allocator asks about them.
 *
 *     make_size_classes              prints the table
 *     make_size_classes --check F    exit status 0 if file F holds exactly what would be printed, else 1
 *
 * How the classes are chosen.  Up to 128 bytes there is a class for each multiple of 16.  Above, each doubling is cut
 * into eight equal steps, so that every power of two is a class and an object wastes at most a ninth of its slot.  A
 * span of a class has the fewest pages with which
 *   - it holds WANTED_SLOTS slots, or as many as fit in WANTED_SPAN_BYTES, but never fewer than LEAST_SLOTS;
 *   - its waste stays within WASTE_LIMIT, where waste is the tail that no slot fits in plus, in each slot, what the
 *     smallest object of the class leaves unused.  Below 128 bytes the second part alone is larger than the limit, and
 *     only the tail counts.
 *
 * The index of a slot is found by a multiplication instead of a division: the multiplier is tried on every offset in the
 * span, and the program refuses to print a table in which one of them comes out wrong. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  PAGE_BYTES = 8192,
  PAGES_MAX = 16,
  UNIT_BYTES = 16,           /* every slot is a multiple of it */
  FINE_BYTES_MAX = 128,      /* up to here, a class for each unit */
  STEPS_PER_DOUBLING = 8,    /* above */
  CLASS_BYTES_MAX = 32768,   /* the largest small object */
  CLASSES_MAX = 96,          /* class 0 included */
  LOOKUP_SPLIT_BYTES = 1024, /* sizes are looked up in units up to here, above in coarse units */
  LOOKUP_COARSE_BYTES = 128,
  WANTED_SLOTS = 8,
  WANTED_SPAN_BYTES = 65536,
  LEAST_SLOTS = 2
};

#define WASTE_LIMIT 0.125

struct size_class {
  uint32_t slot_bytes;
  uint32_t smallest_bytes; /* the smallest object that goes here */
  uint32_t pages;
  uint32_t slots;
  uint32_t tail_bytes; /* of the span, behind the last slot */
  uint32_t magic;      /* offset * magic >> 32 is the slot's index */
  double waste;        /* share of the span, if each slot holds the smallest object */
};

static struct size_class classes[CLASSES_MAX]; /* [0] stands for large objects and stays empty */
static uint32_t class_count = 1;

static void refuse(const char *what, uint32_t slot_bytes) {
  fprintf(stderr, "make_size_classes: %s (class of %u bytes)\n", what, slot_bytes);
  exit(1);
}

/* The size that follows `bytes`: eight steps to the next power of two, none smaller than a unit. */
static uint32_t next_slot_bytes(uint32_t bytes) {
  if (bytes < FINE_BYTES_MAX) return bytes + UNIT_BYTES;
  uint32_t power = FINE_BYTES_MAX;
  while (power * 2 <= bytes) power *= 2;
  return bytes + power / STEPS_PER_DOUBLING;
}

static uint32_t least_slots(uint32_t slot_bytes) {
  uint32_t slots = WANTED_SPAN_BYTES / slot_bytes;
  if (slots > WANTED_SLOTS) return WANTED_SLOTS;
  return slots < LEAST_SLOTS ? LEAST_SLOTS : slots;
}

/* Fills in what follows from a page count. */
static void lay_out(struct size_class *class, uint32_t pages) {
  uint32_t span_bytes = pages * PAGE_BYTES;
  class->pages = pages;
  class->slots = span_bytes / class->slot_bytes;
  class->tail_bytes = span_bytes - class->slots * class->slot_bytes;
  uint32_t unused_bytes = class->slots * (class->slot_bytes - class->smallest_bytes);
  class->waste = (double)(unused_bytes + class->tail_bytes) / span_bytes;
}

static bool is_thrifty(const struct size_class *class) {
  double tail = (double)class->tail_bytes / (class->pages * PAGE_BYTES);
  return class->slot_bytes < FINE_BYTES_MAX ? tail <= WASTE_LIMIT : class->waste <= WASTE_LIMIT;
}

static void choose_pages(struct size_class *class) {
  for (uint32_t pages = 1; pages <= PAGES_MAX; pages++) {
    lay_out(class, pages);
    if (class->slots >= least_slots(class->slot_bytes) && is_thrifty(class)) return;
  }
  refuse("no span length keeps the waste within the limit", class->slot_bytes);
}

static void choose_magic(struct size_class *class) {
  class->magic = (uint32_t)((((uint64_t)1 << 32) + class->slot_bytes - 1) / class->slot_bytes);
  for (uint32_t offset = 0; offset < class->pages * PAGE_BYTES; offset++) {
    if ((uint64_t)offset * class->magic >> 32 != offset / class->slot_bytes) {
      refuse("no multiplier divides every offset", class->slot_bytes);
    }
  }
}

static void make_classes(void) {
  uint32_t before = 0;
  while (before < CLASS_BYTES_MAX) {
    if (class_count == CLASSES_MAX) refuse("too many classes", before);
    struct size_class *class = &classes[class_count++];
    class->slot_bytes = next_slot_bytes(before);
    class->smallest_bytes = before + 1;
    if (class->slot_bytes > LOOKUP_SPLIT_BYTES && class->slot_bytes % LOOKUP_COARSE_BYTES != 0) {
      refuse("the coarse lookup cannot tell this class", class->slot_bytes);
    }
    choose_pages(class);
    choose_magic(class);
    before = class->slot_bytes;
  }
  if (before != CLASS_BYTES_MAX) refuse("the largest class is not the largest small size", before);
}

static uint32_t class_of(uint32_t bytes) {
  uint32_t index = 1;
  while (classes[index].slot_bytes < bytes) index++;
  return index;
}

static void print_comment_table(FILE *out) {
  fprintf(out, "/* class   slot bytes   span bytes   slots   tail bytes   worst waste\n");
  for (uint32_t i = 1; i < class_count; i++) {
    const struct size_class *class = &classes[i];
    fprintf(out, " * %5u %12u %12u %7u %12u %12.2f%%\n", i, class->slot_bytes, class->pages * PAGE_BYTES, class->slots,
            class->tail_bytes, 100 * class->waste);
  }
  fprintf(out, " */\n\n");
}

static uint32_t slot_bytes_of(uint32_t i) { return classes[i].slot_bytes; }
static uint32_t pages_of(uint32_t i) { return classes[i].pages; }
static uint32_t slots_of(uint32_t i) { return classes[i].slots; }
static uint32_t magic_of(uint32_t i) { return classes[i].magic; }
static uint32_t class_of_fine(uint32_t i) { return class_of(i * UNIT_BYTES); }
static uint32_t class_of_coarse(uint32_t i) { return class_of(LOOKUP_SPLIT_BYTES + i * LOOKUP_COARSE_BYTES); }

static void print_array(FILE *out, const char *declaration, uint32_t count, uint32_t (*value)(uint32_t index)) {
  fprintf(out, "\nconst %s = {", declaration);
  for (uint32_t i = 0; i < count; i++) fprintf(out, "%s%u,", i % 12 == 0 ? "\n    " : " ", value(i));
  fprintf(out, "\n};\n");
}

static void print_table(FILE *out) {
  uint32_t fine_count = LOOKUP_SPLIT_BYTES / UNIT_BYTES + 1;
  uint32_t coarse_count = (CLASS_BYTES_MAX - LOOKUP_SPLIT_BYTES) / LOOKUP_COARSE_BYTES + 1;
  uint32_t slots_max = 0;
  for (uint32_t i = 1; i < class_count; i++) slots_max = classes[i].slots > slots_max ? classes[i].slots : slots_max;
  fprintf(out,
          "/* Written by tools/make_size_classes.c; do not edit.  The meaning of it all is in span/size_class.h. */\n");
  fprintf(out, "#ifndef MIDDEN_SPAN_SIZE_CLASS_TABLE_H\n#define MIDDEN_SPAN_SIZE_CLASS_TABLE_H\n\n");
  fprintf(out, "/* clang-format off */\n\n");
  print_comment_table(out);
  fprintf(out, "enum {\n");
  fprintf(out, "  SIZE_CLASS_COUNT = %u, /* class 0, large objects, included */\n", class_count);
  fprintf(out, "  SIZE_CLASS_MAX_BYTES = %u,\n", CLASS_BYTES_MAX);
  fprintf(out, "  SIZE_CLASS_SLOTS_MAX = %u, /* the most slots that a span of any class has */\n", slots_max);
  fprintf(out, "  SIZE_CLASS_FINE_COUNT = %u,\n  SIZE_CLASS_COARSE_COUNT = %u\n};\n\n", fine_count, coarse_count);
  fprintf(out, "/* The arrays themselves, for span/size_class.c alone. */\n#ifdef SIZE_CLASS_DEFINE_ARRAYS\n");
  print_array(out, "uint32_t size_class_bytes[SIZE_CLASS_COUNT]", class_count, slot_bytes_of);
  print_array(out, "uint8_t size_class_pages[SIZE_CLASS_COUNT]", class_count, pages_of);
  print_array(out, "uint16_t size_class_slots[SIZE_CLASS_COUNT]", class_count, slots_of);
  print_array(out, "uint32_t size_class_magic[SIZE_CLASS_COUNT]", class_count, magic_of);
  print_array(out, "uint8_t size_class_fine[SIZE_CLASS_FINE_COUNT]", fine_count, class_of_fine);
  print_array(out, "uint8_t size_class_coarse[SIZE_CLASS_COARSE_COUNT]", coarse_count, class_of_coarse);
  fprintf(out, "\n#endif\n\n/* clang-format on */\n\n#endif\n");
}

static int check_file(const char *path) {
  FILE *committed = fopen(path, "r");
  FILE *fresh = tmpfile();
  if (committed == NULL || fresh == NULL) {
    perror(path);
    return 1;
  }
  print_table(fresh);
  rewind(fresh);
  int a, b;
  do {
    a = fgetc(committed);
    b = fgetc(fresh);
  } while (a == b && a != EOF);
  fclose(committed);
  fclose(fresh);
  if (a == b) return 0;
  fprintf(stderr, "%s is out of date: write the output of make_size_classes there\n", path);
  return 1;
}

int main(int argc, char **argv) {
  make_classes();
  if (argc == 3 && strcmp(argv[1], "--check") == 0) return check_file(argv[2]);
  if (argc != 1) {
    fprintf(stderr, "usage: make_size_classes [--check FILE]\n");
    return 2;
  }
  print_table(stdout);
  return fflush(stdout) == 0 ? 0 : 1;
}
