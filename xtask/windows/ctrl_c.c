/* ctrl_c RESULT COMMAND-LINE: starts the command, writes a line into its pipe, waits for the first byte of its answer,
 * presses Ctrl-C, and writes into the file RESULT what came of it: `ended CODE`, or `went on` and the code after `/exit`. */
#include <stdio.h>
#include <windows.h>

static void die(const char *what)
{
    fprintf(stderr, "ctrl_c: %s: error %lu\n", what, GetLastError());
    exit(2);
}

/* Reads the rest of the answer, so that the program can't wait for its reader. */
static DWORD WINAPI drain(void *pipe)
{
    char bytes[256];
    DWORD n;
    while (ReadFile(pipe, bytes, sizeof bytes, &n, NULL) && n) {
    }
    return 0;
}

int main(int argc, char **argv)
{
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    HANDLE in_read, in_write, out_read, out_write;
    STARTUPINFOA start;
    PROCESS_INFORMATION child;
    char byte;
    DWORD n, code;
    FILE *result;
    if (argc != 3 || !(result = fopen(argv[1], "w")))
        die("usage: ctrl_c RESULT COMMAND-LINE");
    if (!CreatePipe(&in_read, &in_write, &inherited, 0) || !CreatePipe(&out_read, &out_write, &inherited, 0))
        die("pipe");
    SetHandleInformation(in_write, HANDLE_FLAG_INHERIT, 0);
    SetHandleInformation(out_read, HANDLE_FLAG_INHERIT, 0);
    memset(&start, 0, sizeof start);
    start.cb = sizeof start;
    start.dwFlags = STARTF_USESTDHANDLES;
    start.hStdInput = in_read;
    start.hStdOutput = out_write;
    start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    if (!CreateProcessA(NULL, argv[2], NULL, NULL, TRUE, 0, NULL, NULL, &start, &child))
        die("program");
    CloseHandle(in_read);
    CloseHandle(out_write);
    if (!WriteFile(in_write, "Once upon a time\n", 17, &n, NULL))
        die("write");
    if (!ReadFile(out_read, &byte, 1, &n, NULL) || n != 1)
        die("no answer");
    CreateThread(NULL, 0, drain, out_read, 0, NULL);
    /* From here on this program ignores it; the other was started before and doesn't inherit that. */
    if (!SetConsoleCtrlHandler(NULL, TRUE) || !GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0))
        die("Ctrl-C");
    if (WaitForSingleObject(child.hProcess, 5000) == WAIT_OBJECT_0) {
        GetExitCodeProcess(child.hProcess, &code);
        fprintf(result, "ended 0x%lX\n", code);
        return 0;
    }
    WriteFile(in_write, "/exit\n", 6, &n, NULL);
    if (WaitForSingleObject(child.hProcess, 10000) != WAIT_OBJECT_0) {
        TerminateProcess(child.hProcess, 1);
        die("it neither ended nor went on");
    }
    GetExitCodeProcess(child.hProcess, &code);
    fprintf(result, "went on, and ended 0x%lX\n", code);
    return 0;
}
