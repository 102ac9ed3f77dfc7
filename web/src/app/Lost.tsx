/** Nothing at this address, and what stands in for a page that failed as a whole. */
import { Button } from "@mantine/core";
import { Link, useRouter, type ErrorComponentProps } from "@tanstack/react-router";
import { Empty, Problem } from "@/ui/Answer";
import { Page } from "@/ui/Page";

export function Lost() {
  return (
    <Page title="Not found" line="There is nothing at this address.">
      <Empty title="This page does not exist" why="It may have been renamed, or what it showed was deleted." action={<Link to="/">Go to the overview</Link>} />
    </Page>
  );
}

export function Failed({ error }: ErrorComponentProps) {
  const router = useRouter();
  return (
    <Page title="The console failed" line="Nothing was lost: the gateway itself is not affected.">
      <Problem error={error} />
      <div>
        <Button variant="default" onClick={() => void router.invalidate()}>
          Try again
        </Button>
      </div>
    </Page>
  );
}
