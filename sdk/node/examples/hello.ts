import { join } from '../src';

// In a program of your own: import { join } from '@withobsrvr/flowctl';
async function main(): Promise<void> {
  const member = await join({ role: 'source', outputs: ['greeting'] });
  const timer = setInterval(() => {
    console.log('hello');
    member.count('greetings');
  }, 20);
  member.signal.addEventListener('abort', () => {
    clearInterval(timer);
    void member.leave();
  });
}

void main();
