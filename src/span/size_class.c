#define SIZE_CLASS_DEFINE_ARRAYS /* before the first include: the table defines its arrays in this file alone */
#include "span/size_class.h"
