from jobmaster import JobMaster

jm = JobMaster("hello")  # its jobs are in jobmaster.db, beside this file


@jm.task
def hello(name: str) -> str:
    return f"Hello {name}"


if __name__ == "__main__":
    result = hello.delay(name="John")
    print("accepted as", result.id)
    print(result.get(timeout=10))
