/** Signs in with a passkey; not there where the browser can have none. */
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconFingerprint } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import type { Session } from "@/api/model";
import { noPasskeysBecause, signInByPasskey } from "@/api/passkey";
import { Problem } from "@/ui/Answer";

export function PasskeyButton({ enter, filled = false }: { enter: (session: Session) => void; filled?: boolean }) {
  const entering = useMutation({ mutationFn: signInByPasskey, onSuccess: enter });
  if (noPasskeysBecause()) return null;
  return (
    <>
      {entering.error ? <Problem error={entering.error} /> : null}
      <Button variant={filled ? "filled" : "default"} leftSection={<IconFingerprint size={18} stroke={1.7} />} loading={entering.isPending} onClick={() => entering.mutate()}>
        <Trans>Use a passkey</Trans>
      </Button>
    </>
  );
}
