/* Single functions of libraries that have nothing else of their own: each line is taken into the
 * library that torch asks for it (generate.py), so one function is one line. */
int cufftCreate(int *plan) { return *plan = 1, 0; }
int cufftXtMakePlanMany(int plan, int rank, long long *n, long long *ie, long long is, long long id, int it, long long *oe, long long os, long long od, int ot, long long batch, size_t *bytes) { return *bytes = 0, 0; }
int ncclGetVersion(int *version) { return *version = 23007, 0; }
const char *ncclGetErrorString(int error) { return "NCCL is not in the stand-in"; }
const char *ncclGetLastError(void *communicator) { return "NCCL is not in the stand-in"; }
int cuptiGetVersion(unsigned *version) { return *version = 130000, 0; }
int cuptiGetResultString(int error, const char **text) { return *text = "CUPTI is not in the stand-in", 0; }
int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0; }
const char *nvrtcGetErrorString(int error) { return "NVRTC is not in the stand-in"; }
int nvrtcCreateProgram(void **program) { return !(*program = calloc(1, 64)); }
int nvrtcGetCUBINSize(void *program, size_t *bytes) { return *bytes = 16, 0; }
int nvrtcGetPTXSize(void *program, size_t *bytes) { return *bytes = 16, 0; }
int nvrtcGetProgramLogSize(void *program, size_t *bytes) { return *bytes = 1, 0; }
int nvrtcGetProgramLog(void *program, char *text) { return *text = 0; }
int nvrtcGetLoweredName(void *program, const char *name, const char **lowered) { return *lowered = name, 0; }
