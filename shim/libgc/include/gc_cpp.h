/* For programs that include <gc_cpp.h>: the interface is <gc/gc_cpp.h>. */
#include "gc/gc_cpp.h"
